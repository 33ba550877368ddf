"""Attention masks of pruned layers, cut out of the mask that the model made for the whole sequence.

Cutting instead of making anew keeps everything the model's own mask says exact: padding, sliding windows by ORIGINAL
distance, bidirectional image blocks, prefix-LM.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autoprune.errors import PatchError
from autoprune.runtime.survivors import Survivors, take


def pruned_mask(
    base: Tensor | None,
    rows: Tensor | None,
    row_columns: Tensor,
    columns: Tensor,
    filled: Tensor,
    all_filled: bool,
    offset: int,
    causal: bool = True,
) -> Tensor | None:
    """The mask of a pruned layer.

    Args:
        base: The model's mask: None (nothing masked beyond causality), or bool / additive [B or 1, 1 or H, S, K].
        rows: LongTensor[B, q], which rows of `base` the queries are; None = all of them.
        row_columns: LongTensor[B, q], logical columns of the queries.
        columns: LongTensor[B, n], logical columns of the keys.
        filled: BoolTensor[B, n], False at fillers and at free entries of a static cache.
        all_filled: Whether `filled` is True everywhere.
        offset: Logical column of the first column of `base` (sliding windows).
        causal: Whether the layer sees only what is before a token where it gets no mask.

    Returns:
        None when the plain causal kernel is exact, else a mask [B, 1 or H, q, n] of the dtype of `base`.

    Raises:
        PatchError: a mask of another kind than eager and sdpa attention use.
    """
    (batch, q), n = row_columns.shape, columns.shape[1]
    if base is None:
        # One query, or as many queries as keys: the kernel's own causal rule is right as long as no key is a filler.
        if all_filled and (q in (1, n) or not causal):
            return None
        usable = filled[:, None, None, :]
        return usable & (row_columns[:, None, :, None] >= columns[:, None, None, :]) if causal else usable
    if not isinstance(base, Tensor) or base.ndim != 4:
        raise PatchError(
            "unknown attention mask",
            field="attention_mask",
            value=type(base).__name__,
            remedy='use attn_implementation="sdpa" or "eager"',
        )
    device = base.device
    inside = columns.to(device) - offset
    usable = (inside >= 0) & (inside < base.shape[3]) & filled.to(device)
    inside = inside.clamp(0, base.shape[3] - 1)
    cut = base if rows is None else take(base.transpose(0, 1), rows, 2).transpose(0, 1)
    cut = cut.expand(batch, -1, -1, -1).gather(3, inside[:, None, None, :].expand(-1, base.shape[1], q, -1))
    blocked: float | bool = False if cut.dtype == torch.bool else torch.finfo(cut.dtype).min
    return cut.masked_fill(~usable[:, None, None, :], blocked)


def recurrent_mask(survivors: Survivors, past: int) -> Tensor | None:
    """The mask [B, n] of a recurrent layer, which reads the survivors in order; None when there is no filler.

    Raises:
        PatchError: fillers in a later turn, which would decay a state that is no longer empty.
    """
    if survivors.all_valid:
        return None
    if past:
        raise PatchError(
            "the samples of this batch keep different numbers of tokens in a later turn, which a recurrent layer "
            "cannot tell from tokens",
            field="batch_size",
            value=len(survivors.index),
            remedy="run the later turns one sample at a time",
        )
    return survivors.valid
