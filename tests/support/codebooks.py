"""Codebooks on disk, and schedules that use them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file

from autoprune.schedule import Schedule


def with_codebook(path: Path, named: str | None = None, seed: int = 0, width: int = 8) -> Schedule:
    """A schedule that uses a codebook, which is written.

    Args:
        path: The codebook's file.
        named: What the schedule calls it; None = its path.
        seed: Of its content.
        width: Of its prototypes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"prototypes": torch.randn(3, width, generator=torch.Generator().manual_seed(seed))}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    criterion = {"name": "codebook", "path": named or str(path), "sha256": digest, "prototypes": 3}
    return Schedule.model_validate({"stages": [{"layer": 0, "keep": {"ratio": 0.5}, "criterion": criterion}]})
