"""autoprune finds, prices and applies visual-token pruning schedules for multimodal LLMs.

Importing the package is cheap: torch and transformers load when `apply`, `cost` or `analysis` is first used, the
packages of a search when `calibrate` is called.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from autoprune import presets
from autoprune.errors import AutopruneError
from autoprune.schedule import Schedule

if TYPE_CHECKING:
    from autoprune import analysis
    from autoprune.entry import calibrate
    from autoprune.pricing.cost import Cost, cost
    from autoprune.runtime import Patch, apply

__version__ = "0.1.0"
__all__ = ["AutopruneError", "Cost", "Patch", "Schedule", "analysis", "apply", "calibrate", "cost", "presets"]
_LAZY = {
    "Cost": "autoprune.pricing.cost",
    "Patch": "autoprune.runtime",
    "apply": "autoprune.runtime",
    "calibrate": "autoprune.entry",
    "cost": "autoprune.pricing.cost",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name == "analysis":
        return importlib.import_module("autoprune.analysis")
    raise AttributeError(f"module 'autoprune' has no attribute {name!r}")
