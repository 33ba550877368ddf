"""Hardware and package versions that a figure was measured with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

_STATUS = Path("/proc/self/status")
_MEMORY = Path("/proc/meminfo")
_GROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"))


def hardware(device: torch.device | None = None) -> dict[str, Any]:
    """The machine: name of the CPU, CPU cores that this process may use, and name of the GPU.

    Args:
        device: Where the model runs; the GPU is None where that is not one.
    """
    return {"cpu": _processor(), "cores": _cores(), "gpu": gpu_name(device)}


def gpu_name(device: torch.device | None) -> str | None:
    """Name of a CUDA device; None for any other."""
    return torch.cuda.get_device_name(device) if device is not None and device.type == "cuda" else None


def peak_bytes(device: torch.device) -> int:
    """Largest memory so far: what tensors held on the GPUs, or else what the process held; 0 where neither is told.

    Args:
        device: Where the model runs.
    """
    if device.type == "cuda":
        return sum(torch.cuda.max_memory_allocated(number) for number in range(torch.cuda.device_count()))
    return resident_bytes("VmHWM")


def free_bytes(devices: Iterable[torch.device]) -> int | None:
    """Memory that is free: of these GPUs together, or of the machine or the group of processes; None if not told.

    Args:
        devices: Where the parts of the model are.
    """
    places = set(devices)
    kinds = {place.type for place in places}
    if kinds == {"cuda"}:
        return sum(torch.cuda.mem_get_info(place)[0] for place in places)
    if kinds != {"cpu"} or not _MEMORY.is_file():
        return None
    told = [line.split() for line in _MEMORY.read_text(encoding="ascii", errors="replace").splitlines()]
    available = next((1024 * int(words[1]) for words in told if words[0] == "MemAvailable:"), None)
    limit, used = map(_number, _GROUP)
    group = None if limit is None or used is None else limit - used
    return min((value for value in (available, group) if value is not None), default=None)


def _number(file: Path) -> int | None:
    """What a file of the kernel says; None where there is none, or no limit."""
    said = file.read_text(encoding="ascii").strip() if file.is_file() else ""
    return int(said) if said.isdigit() else None


def resident_bytes(name: str) -> int:
    """Memory of this process under a name of Linux: ``VmRSS`` = now, ``VmHWM`` = the peak; 0 on other systems."""
    if not _STATUS.is_file():
        return 0
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0


def versions(packages: Iterable[str] = ("autoprune", "torch", "transformers")) -> dict[str, str]:
    """Versions of Python and of those of the packages that are installed."""
    installed = {"python": platform.python_version()}
    for package in packages:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
