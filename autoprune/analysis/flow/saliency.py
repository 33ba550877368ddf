"""How much an attention entry matters to the loss: |A ⊙ dLoss/dA|, in closed form from one attention call.

The output of a head is O = A V, so dLoss/dA = dLoss/dO Vᵀ: neither the map nor its gradient has to be stored. Rows are
made in chunks and summed at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.runtime.criteria.attention import attention_rows
from autoprune.runtime.tap import AttentionCall

VISUAL, TEXT = 0, 1
"""Places of the two kinds of token on the axes of flows."""


def saliency_flows(call: AttentionCall, gradient: Tensor, visual: Tensor, valid: Tensor) -> Tensor:
    """First-order saliency of attention entries (HiMAP, CVPR 2025), summed over heads and over kinds of token.

    Absolute values are taken per head, as in the released code, which then takes the mean over heads: 1/H of this sum.

    Args:
        call: A call of the attention over n tokens, without a cache.
        gradient: [B, n, H, d_v], dLoss/dO.
        visual: BoolTensor[B, n], visual tokens.
        valid: BoolTensor[B, n], False at padding.

    Returns:
        FloatTensor[B, 2, 2]: [b, i, j] is what tokens of kind i read from tokens of kind j, in fp32.
    """
    batch, heads, n, _ = call.query.shape
    groups, total = call.value.shape[1:3]
    kinds = torch.stack([valid & visual, valid & ~visual], 1).float()
    values = call.value.detach().float().transpose(2, 3)
    upstream = gradient.detach().float().transpose(1, 2)
    flows = torch.zeros(batch, 2, 2, device=values.device)
    rows = torch.arange(n, device=values.device).expand(batch, -1)
    for chunks, weights, _ in attention_rows(call.query.detach(), call.key.detach(), rows, call.mask, call.softmax):
        chunk = chunks[0]
        slopes = upstream[:, :, chunk].reshape(batch, groups, -1, values.shape[2]) @ values
        saliency = (weights * slopes.view(batch, heads, len(chunk), total)).abs_().sum(1)
        flows += torch.einsum("bir,brc,bjc->bij", kinds[:, :, chunk], saliency, kinds)
    return flows
