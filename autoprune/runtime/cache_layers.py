"""Cache layers that hold survivors only, yet report the length of the whole sequence.

transformers sizes masks and positions from the length of ONE cache layer. If a pruned layer reported its physical
length, every later token would be placed and masked wrongly; so it reports the logical one, and remembers which logical
column each of its entries is.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import (
    CacheLayerMixin,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    StaticLayer,
    StaticSlidingWindowLayer,
)

from autoprune.errors import PatchError
from autoprune.runtime.frames import outwards


class Pruned(CacheLayerMixin):
    """State of a pruned cache layer beside its entries.

    Attributes:
        columns: LongTensor[B, P], logical column of the first P entries; the entries after them are contiguous.
        filled: BoolTensor[B, P], False where an entry is a filler of a ragged batch.
        next_column: Logical column of entry P; 0 while the layer holds nothing pruned.
        length: Logical length, known on the host.
        all_filled: Whether `filled` is True everywhere, known on the host.
        shift: LongTensor[B], how many places earlier than in the sequence the next token stands, with compact
            positions; None where tokens keep their original ones.
        masked: Whether a patched pass prepared the mask for the entries that come next, or saw that they need none.
    """

    columns: Tensor
    filled: Tensor
    next_column: int
    length: int
    all_filled: bool
    shift: Tensor | None = None
    masked: bool = False

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add entries.

        Raises:
            PatchError: the model runs without the patch, and its own mask would be wrong for the survivors.
        """
        if self.next_column and not self.masked and (not self.plain(key_states.shape[-2]) or _mask_is_given()):
            raise PatchError(
                "this cache was filled by a pruned pass, but the model is no longer patched",
                field="past_key_values",
                remedy="keep the patch applied for the whole conversation, or start with a new cache",
            )
        self.masked = False
        self.length += key_states.shape[-2]
        result: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)  # type: ignore[safe-super]  # mixed in
        return result

    def plain(self, new: int) -> bool:
        """Whether `new` more entries need no mask and no positions of ours, if the model needs no mask itself."""
        return new == 1 and self.all_filled and self.shift is None

    @property
    def dropped(self) -> int:
        """Logical columns that have no entry."""
        return self.next_column - int(self.columns.shape[1]) if self.next_column else 0

    @abstractmethod
    def width(self, new: int) -> int:
        """Entries that the layer returns when `new` ones are added: the width of its mask."""

    def reset(self) -> None:
        """Empty the layer."""
        super().reset()
        self.next_column = self.length = 0
        self.shift = None

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Reorder the samples, as beam search asks."""
        super().reorder_cache(beam_idx)
        self._select_samples(lambda t: t.index_select(0, beam_idx.to(t.device)))

    def _select_samples(self, pick: Callable[[Tensor], Tensor]) -> None:
        if self.next_column:
            self.columns, self.filled = pick(self.columns), pick(self.filled)
            self.shift = None if self.shift is None else pick(self.shift)

    def logical(self, past: int) -> tuple[Tensor, Tensor]:
        """Columns [B, P'] and validity [B, P'] of all entries when `past` logical columns have gone by."""
        batch = self.columns.shape[0]
        tail = torch.arange(self.next_column, past, device=self.columns.device).expand(batch, -1)
        filled = torch.ones_like(tail, dtype=torch.bool)
        return torch.cat([self.columns, tail], 1), torch.cat([self.filled, filled], 1)


class PrunedLayer(Pruned, DynamicLayer):
    """A growing cache layer after pruning."""

    def get_seq_length(self) -> int:
        """Logical length."""
        return self.length if self.next_column else super().get_seq_length()

    def width(self, new: int) -> int:
        """As `Pruned.width`."""
        return (int(self.keys.shape[-2]) if self.is_initialized else 0) + new  # type: ignore[union-attr]  # set once it is

    def reset(self) -> None:
        """As `Pruned.reset`; early releases of transformers zero the entries, but keep their number."""
        super().reset()
        self.keys = self.values = None
        self.is_initialized = False

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every sample."""
        super().batch_repeat_interleave(repeats)
        self._select_samples(lambda t: t.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep some samples."""
        super().batch_select_indices(indices)
        self._select_samples(lambda t: t[indices.to(t.device)])

    def crop(self, tokens_to_remove: int) -> None:
        """Remove columns at the end; back past an image, each sample loses the entries that stood in them.

        Args:
            tokens_to_remove: Minus the number of columns; before transformers 5.18 also the logical length wanted.

        Raises:
            PatchError: what is left cannot be known.
        """
        if tokens_to_remove > 0:
            tokens_to_remove = min(0, tokens_to_remove - self.length)
        if tokens_to_remove == 0:
            return
        length = max(0, self.length + tokens_to_remove)
        cut = self.next_column - length
        if cut <= 0:  # only what came after the pruned pass: n entries are n columns
            self._crop_entries(self.length - length)
        elif bool(((self.filled & (self.columns >= length)).sum(1) == cut).all()):  # so it is where nothing was dropped
            self._crop_entries(self.length - length)
            self.columns, self.filled = self.columns[:, :-cut], self.filled[:, :-cut]
            self.next_column = length
        else:
            self._crop_survivors(length)
        self.length = length

    def _crop_survivors(self, length: int) -> None:
        """Keep the entries of columns before `length`, of which the samples have different numbers."""
        if self.shift is not None:
            raise _lost("its survivors were renumbered, and by how much before this column is not kept")
        keep = self.filled & (self.columns < length)
        counts = keep.sum(1).tolist()
        n = max(counts)
        index = keep.to(torch.uint8).argsort(dim=1, stable=True)[:, keep.shape[1] - n :]
        self.keys, self.values = (entries_at(t, index) for t in (self.keys, self.values))
        self.columns, self.filled = self.columns.gather(1, index), keep.gather(1, index)
        self.all_filled = min(counts) == n
        # A layer that lacks no column is as good as one that was never pruned.
        self.next_column = 0 if self.all_filled and n == length else length

    def _crop_entries(self, count: int) -> None:
        # Not by the base class: early releases compare with the length that the layer reports.
        self.keys, self.values = self.keys[..., :-count, :], self.values[..., :-count, :]  # type: ignore[index]  # full


class PrunedSlidingLayer(PrunedLayer, DynamicSlidingWindowLayer):
    """A growing cache layer with a sliding window after pruning; the window counts ORIGINAL distances."""

    def get_seq_length(self) -> int:
        """Logical length."""
        return self.cumulative_length + self.dropped

    def width(self, new: int) -> int:
        """As `Pruned.width`."""
        return int(DynamicSlidingWindowLayer.get_mask_sizes(self, new)[0])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Mask length and offset in logical columns."""
        physical = self.cumulative_length
        self.cumulative_length = physical + self.dropped
        try:
            return DynamicSlidingWindowLayer.get_mask_sizes(self, query_length)
        finally:
            self.cumulative_length = physical

    def _crop_survivors(self, length: int) -> None:
        if self.cumulative_length >= self.sliding_window:
            raise _lost("entries that left its sliding window are gone")
        super()._crop_survivors(length)
        self.cumulative_length = int(self.columns.shape[1])

    def _crop_entries(self, count: int) -> None:
        if self.cumulative_length < self.sliding_window:
            super()._crop_entries(count)
            self.cumulative_length -= count
        else:  # the base class knows whether what left the window was recorded
            DynamicSlidingWindowLayer.crop(self, -count)


class PrunedStaticLayer(Pruned, StaticLayer):
    """A preallocated cache layer after pruning: survivors come first, and the entries behind them are free."""

    def get_seq_length(self) -> Any:
        """Logical length; a tensor, as in the base class, once something was cached."""
        return super().get_seq_length() + self.dropped

    def width(self, new: int) -> int:
        """As `Pruned.width`."""
        return int(self.max_cache_len)

    def plain(self, new: int) -> bool:
        """As `Pruned.plain`: its mask covers the free entries too."""
        return False


class PrunedStaticSlidingLayer(PrunedStaticLayer, StaticSlidingWindowLayer):
    """A preallocated cache layer with a sliding window after pruning; the window counts ORIGINAL distances."""

    def width(self, new: int) -> int:
        """As `Pruned.width`."""
        return int(StaticSlidingWindowLayer.get_mask_sizes(self, new)[0])

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Mask length and offset in logical columns."""
        physical = self.cumulative_length_int
        self.cumulative_length_int = physical + self.dropped
        try:
            return StaticSlidingWindowLayer.get_mask_sizes(self, query_length)
        finally:
            self.cumulative_length_int = physical


def entries_at(tensor: Tensor | None, index: Tensor) -> Tensor:
    """Entries [B, n] of keys or values [B, H, N, d]."""
    assert tensor is not None  # a layer that holds something
    where = index.to(tensor.device)[:, None, :, None]
    return tensor.gather(2, where.expand(-1, tensor.shape[1], -1, tensor.shape[3]))


@torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled code has no frames to look at
def _mask_is_given() -> bool:
    """Whether the attention that is adding entries got a mask, which would be one of the whole sequence.

    Without the patch nobody else knows: eager attention is always given one, and so is a layer whose window the
    sequence has outgrown, even where survivors are as many as the window is wide.
    """
    calls = (call.f_locals for call in outwards(sys._getframe()) if "attention_mask" in call.f_locals)
    return next(calls, {"attention_mask": True})["attention_mask"] is not None


def _lost(why: str) -> PatchError:
    return PatchError(
        f"this cache cannot be cropped back past an image: {why}",
        field="past_key_values",
        remedy="start from a copy of the cache that was made before the image",
    )
