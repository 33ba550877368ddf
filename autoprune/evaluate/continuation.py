"""Answers that part from the reference are decoded on, rows of several batches together.

A decode step costs next to the same for one row as for many, and a batch seldom has more than a few such rows. So they
are put aside, with their part of the KV cache, and finished in one loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from autoprune.evaluate.greedy import continue_greedy
from autoprune.runtime import apply
from autoprune.runtime.cache import mark_pruned
from autoprune.runtime.cache_layers import Pruned
from autoprune.schedule import Schedule


@dataclass
class OpenRows:
    """Rows of one batch whose answers are not finished.

    Attributes:
        places: Which samples of the batch they are.
        heads: Tokens of each row before it parts from the reference.
        tokens: The token of each row at which it parts from the reference.
        budgets: How many tokens each row may still have, that one included.
        attention_mask: [R, S] over the logical columns of the cache: 0 at padding and at the rest of the reference.
        positions: Position ids [..., R, 1] of `tokens`.
        cache: KV cache of the rows, all layers.
    """

    places: list[int]
    heads: list[list[int]]
    tokens: list[int]
    budgets: list[int]
    attention_mask: Tensor
    positions: Tensor
    cache: Any

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(
            tensor.numel() * tensor.element_size()
            for layer in self.cache.layers
            for tensor in (layer.keys, layer.values)
        )


def finish(model: Any, schedule: Schedule, parts: Sequence[OpenRows], ends: frozenset[int]) -> list[list[list[int]]]:
    """Greedy answers of open rows, whole.

    Args:
        model: The model, without a patch.
        schedule: Under which the caches were filled.
        parts: Rows of some batches; their caches are used up.
        ends: Tokens that end an answer.

    Returns:
        For each part, the tokens of each of its rows.
    """
    length = max(part.attention_mask.shape[1] for part in parts)
    masks = [pad(part.attention_mask, (length - part.attention_mask.shape[1], 0)) for part in parts]
    positions = torch.cat([part.positions for part in parts], -2)
    tokens = torch.tensor([token for part in parts for token in part.tokens], device=positions.device)
    budgets = [budget for part in parts for budget in part.budgets]
    cache = parts[0].cache if len(parts) == 1 else join_caches([part.cache for part in parts])
    with apply(model, schedule):
        answers = iter(continue_greedy(model, cache, torch.cat(masks), positions, tokens, budgets, ends))
    return [[head + next(answers) for head in part.heads] for part in parts]


def join_caches(caches: Sequence[Any]) -> Any:
    """One cache for the rows of several; rows end at the same logical column, shorter ones are padded on the left.

    Padded columns are to be masked by the attention mask; entries that pad a pruned layer are marked as fillers.
    """
    joined: Any = DynamicCache()
    lengths = [cache.get_seq_length() for cache in caches]
    for i in range(len(caches[0].layers)):
        layers = [cache.layers[i] for cache in caches]
        entries = max(layer.keys.shape[-2] for layer in layers)
        keys = torch.cat([_padded(layer.keys, entries) for layer in layers])
        layer: Any = DynamicLayer()
        layer.lazy_initialization(keys, keys)
        layer.keys, layer.values = keys, torch.cat([_padded(layer.values, entries) for layer in layers])
        joined.layers.append(layer)
        if any(isinstance(part, Pruned) for part in layers):
            _mark(joined, i, layers, lengths, entries)
    return joined


def _mark(joined: Any, i: int, layers: Sequence[Any], lengths: Sequence[int], entries: int) -> None:
    columns, filled = [], []
    for layer, length in zip(layers, lengths, strict=True):
        if isinstance(layer, Pruned):
            own, real = layer.logical(length)
        else:
            own = torch.arange(length, device=layer.keys.device).expand(len(layer.keys), -1)
            real = torch.ones_like(own, dtype=torch.bool)
        missing = (entries - own.shape[1], 0)
        columns.append(pad(own + max(lengths) - length, missing))
        filled.append(pad(real, missing))
    real = torch.cat(filled)
    shifts = [getattr(layer, "shift", None) for layer in layers]
    shift = None
    if any(s is not None for s in shifts):
        rows = zip(shifts, layers, strict=True)
        shift = torch.cat([real.new_zeros(len(p.keys), dtype=torch.long) if s is None else s for s, p in rows])
    mark_pruned(joined, i, torch.cat(columns), real, max(lengths), bool(real.all()), shift)


def _padded(tensor: Tensor, entries: int) -> Tensor:
    return pad(tensor, (0, 0, entries - tensor.shape[-2], 0))
