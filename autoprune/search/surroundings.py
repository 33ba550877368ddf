"""Where and with what a study ran: hardware and versions."""

from __future__ import annotations

from typing import Any

from autoprune.models import environment
from autoprune.search.sections import Workers

_PACKAGES = ("autoprune", "torch", "transformers", "optuna", "ray")


def hardware(workers: Workers, details: dict[str, Any]) -> dict[str, Any]:
    """Processor, cores, accelerator, and how the study used them."""
    return {
        "cpu": environment.processor(),
        "cores": environment.cores(),
        "gpu": details.get("gpu"),
        "device": details.get("device"),
        "workers": workers.count,
        "threads": workers.cpus,
    }


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    return environment.versions(_PACKAGES)
