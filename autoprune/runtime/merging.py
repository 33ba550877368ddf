"""Merging instead of dropping: what a dropped token knew goes into the kept token that is most like it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def merged(hidden: Tensor, kept: Tensor, dropped: Tensor) -> Tensor:
    """Hidden states in which each kept token is the mean of itself and the dropped tokens most similar to it.

    After VisionZip (CVPR 2025, section 3.2). There contextual tokens are new ones, and a target is added to the mean of
    the others; here they stay a subset of the visual tokens, at their own positions, and everything weighs the same.

    Args:
        hidden: [B, S, d], entering the stage's layer.
        kept: BoolTensor[B, S], visual tokens that stay.
        dropped: BoolTensor[B, S], visual tokens that this stage drops.

    Returns:
        [B, S, d], new at `kept`; similarity is the cosine, ties go to the earlier token.
    """
    result = hidden.clone()
    for b in range(len(hidden)):
        stay, leave = kept[b].to(hidden.device), dropped[b].to(hidden.device)
        if not bool(stay.any()) or not bool(leave.any()):
            continue
        into, gone = hidden[b, stay].float(), hidden[b, leave].float()
        nearest = (normalize(gone, dim=1) @ normalize(into, dim=1).T).argmax(1)
        total = into.index_add(0, nearest, gone)
        members = torch.ones(len(into), device=into.device).index_add(0, nearest, torch.ones_like(gone[:, 0]))
        result[b, stay] = (total / members[:, None]).to(hidden.dtype)
    return result
