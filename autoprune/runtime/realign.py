"""Caches of forced answers: whole while an answer is forced, then cut, each row behind the last token that it accepts.

A window or a chunk is kept by the mask, which the model makes from the length of the cache, so that a layer with one
need not forget anything. Behind the cut, rows end at the same column again, as left-padded prompts do: a column is as
far from the next token as in a pass that never saw what was rejected.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from autoprune.runtime.cache_layers import Pruned, entries_at
from autoprune.runtime.recurrence import MixerInputs


def forcing_cache(config: Any) -> DynamicCache:
    """An empty cache in which layers with a window keep every key.

    Args:
        config: The whole model's config (transformers).
    """
    cache = DynamicCache(config=config.get_text_config(decoder=True))
    cache.layers = [DynamicLayer() if isinstance(layer, DynamicSlidingWindowLayer) else layer for layer in cache.layers]
    return cache


def cut_cache(config: Any, layers: Sequence[Any], rows: Tensor, ends: Tensor, length: int) -> DynamicCache:
    """A cache of some rows, each without what stands in its columns from an end on, pushed to the right.

    Args:
        config: The whole model's config (transformers).
        layers: Growing layers that hold every column, or of a recurrent layer what its mixer read.
        rows: LongTensor[R].
        ends: LongTensor[R], logical columns.
        length: The largest of `ends`: the columns of the new cache. Those that a row lacks come first, and are to be
            masked by the attention mask.
    """
    cache, text = DynamicCache(), config.get_text_config(decoder=True)
    cache.layers = [
        layer.state(text, rows, ends) if isinstance(layer, MixerInputs) else _cut_layer(layer, rows, ends, length)
        for layer in layers
    ]
    return cache


def held_tensors(layer: Any) -> list[Tensor]:
    """What a cache layer holds, or stands in its place."""
    if isinstance(layer, MixerInputs):
        return [layer.hidden]
    if isinstance(layer, LinearAttentionLayer):
        states = [*layer.conv_states.values(), *layer.recurrent_states.values()]
        return [state for state in states if state is not None]
    return [layer.keys, layer.values]


def _cut_layer(layer: Any, rows: Tensor, ends: Tensor, length: int) -> Any:
    cut = copy.copy(layer)
    rows, ends = rows.to(layer.keys.device), ends.to(layer.keys.device)
    if isinstance(layer, Pruned) and layer.next_column:
        before, filled = (t[rows.to(t.device)] for t in layer.logical(layer.length))
        keep = filled & (before < ends[:, None])
        counts = keep.sum(1).tolist()
        most = max(counts)
        index = keep.to(torch.uint8).argsort(dim=1, stable=True)[:, keep.shape[1] - most :]
        cut.columns, cut.filled = before.gather(1, index) + (length - ends)[:, None], keep.gather(1, index)
        cut.all_filled, cut.next_column, cut.length = min(counts) == most, length, length
        cut.shift = None if layer.shift is None else layer.shift[rows.to(layer.shift.device)]
    else:
        index = cut_columns(ends, length)
    cut.keys, cut.values = (entries_at(tensor[rows], index) for tensor in (layer.keys, layer.values))
    return cut


def cut_columns(ends: Tensor, length: int) -> Tensor:
    """LongTensor[R, length]: the columns before each end, pushed to the right; 0 where a row has none."""
    return (torch.arange(length, device=ends.device) - (length - ends)[:, None]).clamp(min=0)


def cut_mask(mask: Tensor, ends: Tensor, length: int) -> Tensor:
    """A mask [R, S] over the columns of rows as one [R, length] over those of their cut layers."""
    moved = mask.gather(1, cut_columns(ends, length))
    return moved * (torch.arange(length, device=mask.device) >= (length - ends)[:, None])
