"""How far apart two runs of one model may be on this machine: measured, not assumed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_SLACK = 6
"""A pruned run rounds in other places than the dense runs whose distance was measured."""

_SHUT = -6e4
"""Below this a logit is no score: the model forbids the token, by minus infinity or the lowest number it has."""


def distance(a: Tensor, b: Tensor) -> float:
    """Largest relative difference of two sets of logits, over the rows.

    A row's difference is the length of the difference vector over that of `b`, both without their mean, to which the
    softmax is blind: it has no unit, and one wild logit does not decide.

    Args:
        a: [..., V].
        b: [..., V].
    """
    if a.numel() == 0:
        return 0.0
    shut = a < _SHUT
    if not torch.equal(shut, b < _SHUT):
        return math.inf
    one, other = (_centred(x.float().masked_fill(shut, 0), ~shut) for x in (a, b))
    relative = (one - other).norm(dim=-1) / other.norm(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
    return float(relative.max())


def _centred(logits: Tensor, open_: Tensor) -> Tensor:
    mean = logits.sum(-1, keepdim=True) / open_.sum(-1, keepdim=True).clamp(min=1)
    return (logits - mean) * open_


def rounding(dtype: torch.dtype, depth: int) -> float:
    """How far apart rounding alone brings two runs.

    Each of two additions per layer is off by up to half an epsilon, evenly spread, in both runs: a variance of
    4 · eps² / 12 per layer.
    """
    return torch.finfo(dtype).eps * math.sqrt(depth / 3)


def allowed(*noises: float) -> float:
    """The tolerance of a comparison in which these sources of noise take part."""
    return _SLACK * max(noises)
