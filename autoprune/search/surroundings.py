"""Where and with what a study ran: hardware and versions."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from autoprune.search.sections import Workers

_PACKAGES = ("autoprune", "torch", "transformers", "optuna", "ray")


def hardware(workers: Workers, details: dict[str, Any]) -> dict[str, Any]:
    """Processor, cores, accelerator, and how the study used them."""
    return {
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": details.get("gpu"),
        "device": details.get("device"),
        "workers": workers.count,
        "threads": workers.cpus,
    }


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
