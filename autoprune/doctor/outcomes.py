"""Outcome of a check, and how far apart two runs of one model may be on this machine: measured, not assumed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Status = Literal["pass", "fail", "not applicable"]

_SLACK = 6
"""A pruned run rounds in other places than the dense runs whose distance was measured."""

_SHUT = -6e4
"""Below this a logit is no score: the model forbids the token, by minus infinity or the lowest number it has."""


@dataclass(frozen=True)
class Outcome:
    """Outcome of one check under one schedule."""

    status: Status
    reason: str


def passed(reason: str) -> Outcome:
    """The outcome of a check whose statement holds."""
    return Outcome("pass", reason)


def failed(reason: str) -> Outcome:
    """The outcome of a check whose statement does not hold."""
    return Outcome("fail", reason)


def inapplicable(reason: str) -> Outcome:
    """The outcome of a check that can show nothing here."""
    return Outcome("not applicable", reason)


def compared(apart: float, limit: float, effect: float, what: str) -> Outcome:
    """The outcome of a comparison.

    Args:
        apart: Distance of the two sides.
        limit: Distance to which rounding can bring them.
        effect: Distance that pruning moves the same numbers; if it is not above `limit`, the comparison shows nothing.
        what: What was compared.
    """
    figures = f"{apart:.1e} apart, {limit:.1e} allowed, pruning itself {effect:.1e}"
    if not apart <= limit:  # also when it is NaN
        return failed(f"{what}: {figures}")
    if effect <= limit:
        return inapplicable(
            f"{what}: pruning moves the logits by {effect:.1e}, two dense runs may differ by {limit:.1e}"
        )
    return passed(f"{what}: {figures}")


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
    """Distance to which rounding alone brings two runs.

    Each of two additions per layer is off by up to half an epsilon, evenly spread, in both runs: a variance of
    4 · eps² / 12 per layer.
    """
    return torch.finfo(dtype).eps * math.sqrt(depth / 3)


def allowed(*noises: float) -> float:
    """The tolerance of a comparison in which these sources of noise take part."""
    return _SLACK * max(noises)
