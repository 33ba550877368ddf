"""Divergences between two distributions over the vocabulary: both directions of KL, and Jensen–Shannon."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from autoprune.errors import EvaluationError


@dataclass(frozen=True)
class Divergences:
    """Divergences between the withdrawn and the dense distribution, in nats; all fields are FloatTensors of one shape.

    Attributes:
        withdrawn_dense: KL(withdrawn ‖ dense), VTW's criterion: hardly grows where the withdrawn model loses a word.
        dense_withdrawn: KL(dense ‖ withdrawn), in which a lost word weighs as much as it was probable.
        js: Jensen–Shannon divergence, symmetric and at most ln 2.
    """

    withdrawn_dense: Tensor
    dense_withdrawn: Tensor
    js: Tensor

    @classmethod
    def between(cls, withdrawn: Tensor, dense: Tensor) -> Self:
        """Divergences between logits [..., V], broadcast, over the whole vocabulary, in fp32.

        Raises:
            EvaluationError: a logit is not finite.
        """
        if not bool(torch.isfinite(withdrawn).all() & torch.isfinite(dense).all()):
            raise EvaluationError("non-finite logits", remedy="use another dtype, such as bfloat16 or float32")
        p, q = withdrawn.float().log_softmax(-1), dense.float().log_softmax(-1)
        mixture = torch.logaddexp(p, q) - math.log(2)
        return cls(_kl(p, q), _kl(q, p), (_kl(p, mixture) + _kl(q, mixture)) / 2)

    @classmethod
    def cat(cls, parts: list[Self]) -> Self:
        """Joined along the first axis."""
        return cls(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    @classmethod
    def stack(cls, parts: list[Self]) -> Self:
        """Joined along a new first axis, on the CPU."""
        return cls(*(torch.stack([getattr(part, f.name) for part in parts]).cpu() for f in fields(cls)))

    def first(self) -> Self:
        """At the first place of the last axis."""
        return type(self)(*(getattr(self, f.name)[..., 0] for f in fields(self)))

    def mean(self) -> Self:
        """Mean over the last axis."""
        return type(self)(*(getattr(self, f.name).mean(-1) for f in fields(self)))


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """KL of log-probabilities [..., V]; rounding below zero is cut off."""
    return (p.exp() * (p - q)).sum(-1).clamp_min(0)
