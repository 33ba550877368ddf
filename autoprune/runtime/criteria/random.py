"""Behaviour of ``random``: a fixed random order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoprune.runtime.criteria import ScoreInputs, ScoreWork


def score(inputs: ScoreInputs) -> Tensor:
    """The same order for a sample in every batch: it depends on the seed and its number of visual tokens alone."""
    table = torch.zeros(len(inputs.n_visual), max(inputs.n_visual))
    for row, n in zip(table, inputs.n_visual, strict=True):
        row[:n] = order(n, inputs.options.seed)
    place = (inputs.visual.cumsum(1) - 1).clamp(min=0)
    return table.to(place.device).gather(1, place)


def order(n_visual: int, seed: int) -> Tensor:
    """FloatTensor[n_visual], random scores."""
    return torch.rand(n_visual, generator=torch.Generator().manual_seed(seed))


def macs(work: ScoreWork, options: Any) -> int:
    """No multiply-adds."""
    return 0
