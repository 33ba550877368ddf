"""Behaviour of ``uniform``: even spacing among the tokens alive."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoprune.runtime.criteria import ScoreInputs, ScoreWork


def score(inputs: ScoreInputs) -> Tensor:
    """1 at the evenly spaced candidates that will be kept, else 0."""
    table = torch.zeros(len(inputs.n_candidates), max(max(inputs.n_candidates), 1))
    for row, alive, target in zip(table, inputs.n_candidates, inputs.n_targets, strict=True):
        row[:alive] = evenly(alive, target)
    place = (inputs.candidates.cumsum(1) - 1).clamp(min=0)
    return table.to(place.device).gather(1, place)


def evenly(alive: int, target: int) -> Tensor:
    """FloatTensor[alive]: 1 at `target` evenly spaced places, else 0."""
    scores = torch.zeros(alive)
    if target:
        scores[(2 * torch.arange(target) + 1) * alive // (2 * target)] = 1
    return scores


def macs(work: ScoreWork, options: Any) -> int:
    """No multiply-adds."""
    return 0
