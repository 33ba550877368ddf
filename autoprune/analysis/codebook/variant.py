"""How redundancy is measured: soundly, or as the code released with the paper does."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from autoprune.analysis.divergences import Divergences

Variant = Literal["sound", "paper"]
_TOP_CONFIDENCE, _TOP_DIVERGENCE, GLOBAL_WEIGHT = 50, 10, 16


def confidence(logits: Tensor, variant: Variant) -> Tensor:
    """Probability of the likeliest first answer token, FloatTensor[n], of logits [n, V].

    Over the whole vocabulary; the released code's softmax runs over the 50 largest logits only, which inflates it.
    """
    if variant == "paper":
        logits = logits.topk(min(_TOP_CONFIDENCE, logits.shape[-1]), -1).values
    return logits.float().softmax(-1).amax(-1)


def divergence(ablated: Tensor, whole: Tensor, variant: Variant) -> Tensor:
    """How far an ablation moves the answer: FloatTensor[n], of logits [n, V] with and without it.

    The Jensen-Shannon divergence over the whole vocabulary, in nats. The released code looks at the 10 likeliest tokens
    of the run that is not ablated, renormalised, turns both Kullback-Leibler terms round, and divides by 10.

    Raises:
        EvaluationError: a logit is not finite.
    """
    if variant == "sound":
        return Divergences.between(ablated, whole).js
    places = whole.topk(min(_TOP_DIVERGENCE, whole.shape[-1]), -1).indices
    p, q = (x.float().gather(-1, places).log_softmax(-1) for x in (ablated, whole))
    mixed = (p.exp() + q.exp()) / 2
    turned = [(mixed * (mixed.log() - log)).sum(-1) for log in (p, q)]
    return torch.stack(turned).mean(0) / places.shape[-1]
