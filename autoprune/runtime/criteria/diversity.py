"""Behaviour of ``diversity``: farthest-point greedy choice by cosine distance (DivPrune, CVPR 2025)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autoprune.runtime.criteria import ScoreInputs, ScoreWork
from autoprune.runtime.exact import cosine
from autoprune.runtime.survivors import places, take

_PAIRS_AT_ONCE = 2**25
"""Distances held at once: bounds memory at 0.4 GB."""


def score(inputs: ScoreInputs) -> Tensor:
    """The earlier a candidate is chosen, the higher; those that are not chosen score 0."""
    width = max(inputs.n_candidates)
    index = places(inputs.candidates, width)
    real = inputs.candidates.gather(1, index)
    at_once = max(1, _PAIRS_AT_ONCE // max(1, width * width))
    steps = max(inputs.n_targets)
    parts = [
        chosen_order(take(inputs.hidden[b], index[b], 1), real[b], inputs.targets[b], steps)
        for b in (slice(start, start + at_once) for start in range(0, len(index), at_once))
    ]
    scores = torch.zeros(inputs.candidates.shape, device=index.device)
    return scores.scatter_(1, index, torch.cat(parts).to(index.device))


def chosen_order(features: Tensor, real: Tensor, targets: Tensor, steps: int) -> Tensor:
    """Max-min greedy choice, all samples in one loop.

    The first token is the one farthest from its nearest neighbour; each further one is farthest from those chosen.

    Args:
        features: [B, m, d], the candidates.
        real: BoolTensor[B, m], False where a sample has fewer.
        targets: LongTensor[B], how many are chosen.
        steps: The largest of them.

    Returns:
        FloatTensor[B, m]: `target` for the first choice down to 1 for the last, 0 for the others.
    """
    scores = torch.zeros(real.shape, device=features.device)
    if steps == 0:
        return scores
    real, left = real.to(features.device), targets.to(features.device)[:, None]
    distance = 1 - cosine(features, features)
    others = real[:, None, :] & ~torch.eye(real.shape[1], dtype=torch.bool, device=features.device)
    alone = distance.masked_fill(~others, 4.0).amin(2)  # cosine distances are at most 2
    chosen = alone.masked_fill(~real, -1.0).argmax(1, keepdim=True)
    nearest = torch.full_like(scores, 4.0).masked_fill(~real, -1.0)
    for step in range(steps):
        worth = (left - step).clamp(min=0).to(scores.dtype)
        # A sample that has all it wants goes on with the batch, but its scores stay.
        scores.scatter_(1, chosen, torch.maximum(scores.gather(1, chosen), worth))
        row = distance.gather(1, chosen[:, :, None].expand(-1, -1, real.shape[1]))[:, 0]
        nearest = torch.minimum(nearest, row).scatter_(1, chosen, -1.0)
        chosen = nearest.argmax(1, keepdim=True)
    return scores


def macs(work: ScoreWork, options: Any) -> int:
    """One product of each candidate with each other."""
    return work.candidates * work.candidates * work.width
