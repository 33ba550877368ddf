"""Behaviour of ``encoder``: attention that the vision tower paid to the patches of a token (VisionZip, CVPR 2025)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from autoprune.runtime.criteria import ScoreInputs, ScoreWork


def score(inputs: ScoreInputs) -> Tensor:
    """The attention received, read while the images were encoded."""
    assert inputs.tower is not None  # the declaration reads the tower
    return inputs.tower


def macs(work: ScoreWork, options: Any) -> int:
    """No multiply-adds: the tower's attention is read where it runs anyway, and it is no cost of the decoder."""
    return 0
