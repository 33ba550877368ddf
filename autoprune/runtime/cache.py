"""Cache layers that hold survivors only, yet report the length of the whole sequence.

transformers sizes masks and positions from the length of ONE cache layer. If a pruned layer reported its physical
length, every later token would be placed and masked wrongly; so it reports the logical one, and remembers which logical
column each of its entries is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

from autoprune.errors import PatchError


class PrunedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A growing cache layer after pruning.

    Attributes:
        columns: LongTensor[B, P], logical column of the first P entries; the entries after them are contiguous.
        filled: BoolTensor[B, P], False where an entry is a filler of a ragged batch.
        next_column: Logical column of entry P.
        all_filled: Whether `filled` is True everywhere, known on the host.
        shift: LongTensor[B], how many places earlier than in the sequence the next token stands, with compact
            positions; None where tokens keep their original ones.
        masked: Whether a patched pass prepared the mask for the entries that come next.
    """

    columns: Tensor
    filled: Tensor
    next_column: int
    all_filled: bool
    shift: Tensor | None = None
    masked: bool = False

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add entries.

        Raises:
            PatchError: the model runs without the patch, and its own mask would be wrong for the survivors.
        """
        plain = key_states.shape[-2] == 1 and self.all_filled and self.shift is None
        if not self.masked and not plain:
            raise PatchError(
                "this cache was filled by a pruned pass, but the model is no longer patched",
                field="past_key_values",
                remedy="keep the patch applied for the whole conversation, or start with a new cache",
            )
        self.masked = False
        result: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
        return result

    @property
    def dropped(self) -> int:
        """Logical columns that have no entry."""
        return self.next_column - int(self.columns.shape[1])

    def get_seq_length(self) -> int:
        """Logical length."""
        physical = super().get_seq_length()
        return physical + self.dropped if physical else 0

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Follow the beams."""
        super().reorder_cache(beam_idx)
        self._select_samples(lambda t: t.index_select(0, beam_idx.to(t.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sample."""
        super().batch_repeat_interleave(repeats)
        self._select_samples(lambda t: t.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some samples."""
        super().batch_select_indices(indices)
        self._select_samples(lambda t: t[indices.to(t.device)])

    def crop(self, tokens_to_remove: int) -> None:
        """Remove entries at the end, which are never pruned ones: n entries are n columns."""
        if tokens_to_remove > 0:  # transformers < 5.18: the absolute logical length wanted
            tokens_to_remove = min(0, tokens_to_remove - self.get_seq_length())
        if tokens_to_remove == 0:
            return
        self._crop_entries(tokens_to_remove)
        overlap = int(self.columns.shape[1]) - held_entries(self)
        if overlap > 0:
            self._select(lambda t: t[:, :-overlap])
            self.next_column -= overlap

    def _crop_entries(self, tokens_to_remove: int) -> None:
        DynamicLayer.crop(self, tokens_to_remove)

    def reset(self) -> None:
        """Refused: transformers only zeroes the entries, and they would stay the survivors' places.

        Raises:
            PatchError: always.
        """
        raise PatchError("a pruned cache cannot be reset", field="past_key_values", remedy="start with a new cache")

    def _select_samples(self, pick: Callable[[Tensor], Tensor]) -> None:
        self._select(pick)
        self.shift = None if self.shift is None else pick(self.shift)

    def _select(self, pick: Callable[[Tensor], Tensor]) -> None:
        self.columns, self.filled = pick(self.columns), pick(self.filled)

    def logical(self, past: int) -> tuple[Tensor, Tensor]:
        """Columns [B, P'] and validity [B, P'] of all entries when `past` logical columns have gone by."""
        batch = self.columns.shape[0]
        tail = torch.arange(self.next_column, past, device=self.columns.device).expand(batch, -1)
        filled = torch.ones_like(tail, dtype=torch.bool)
        return torch.cat([self.columns, tail], 1), torch.cat([self.filled, filled], 1)


class PrunedSlidingLayer(PrunedLayer, DynamicSlidingWindowLayer):  # type: ignore[no-untyped-call]
    """The same with a sliding window: entries beyond the window leave, and the window counts ORIGINAL distances."""

    def get_seq_length(self) -> int:
        """Logical length."""
        return self.cumulative_length + self.dropped

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Mask length and offset in logical columns."""
        physical = self.cumulative_length
        self.cumulative_length = physical + self.dropped
        try:
            return DynamicSlidingWindowLayer.get_mask_sizes(self, query_length)
        finally:
            self.cumulative_length = physical

    def _crop_entries(self, tokens_to_remove: int) -> None:
        # The base decides by its physical length whether the window was reached.
        DynamicSlidingWindowLayer.crop(self, tokens_to_remove)


_PRUNED: dict[type, Any] = {DynamicLayer: PrunedLayer, DynamicSlidingWindowLayer: PrunedSlidingLayer}


def check_cache(cache: Cache | None) -> None:
    """Refuse caches whose layers cannot hold survivors only.

    Raises:
        PatchError: the cache is not made of dynamic layers.
    """
    for layer in getattr(cache, "layers", ()):
        if type(layer) not in _PRUNED and not isinstance(layer, PrunedLayer):
            raise PatchError(
                "this kind of cache cannot be pruned yet",
                field="past_key_values",
                value=type(layer).__name__,
                remedy="generate with the default dynamic cache",
            )


def mark_pruned(
    cache: Cache,
    i: int,
    columns: Tensor,
    filled: Tensor,
    next_column: int,
    all_filled: bool,
    shift: Tensor | None = None,
) -> None:
    """Record in layer `i` of the cache which logical columns its entries are; arguments as `PrunedLayer` has them."""
    layer: Any = cache.layers[i]
    if not isinstance(layer, PrunedLayer):
        # A new object that shares the state: Python refuses to change the class of an existing one.
        kind = _PRUNED[type(layer)]
        pruned = kind.__new__(kind)
        pruned.__dict__ = layer.__dict__
        cache.layers[i] = layer = pruned
    layer.columns, layer.filled, layer.next_column, layer.all_filled = columns, filled, next_column, all_filled
    layer.shift = shift


def held_entries(layer: Any) -> int:
    """Entries that a cache layer holds."""
    return int(layer.keys.shape[-2]) if layer.is_initialized else 0


def layer_at(cache: Cache | None, i: int) -> Any:
    """Layer `i` of the cache if it holds something, else None."""
    layer = cache.layers[i] if cache is not None and i < len(cache.layers) else None
    return layer if getattr(layer, "is_initialized", False) else None


def pruned_layer(cache: Cache | None, i: int) -> PrunedLayer | None:
    """Layer `i` of the cache if it was pruned and holds something."""
    layer = layer_at(cache, i)
    return layer if isinstance(layer, PrunedLayer) else None
