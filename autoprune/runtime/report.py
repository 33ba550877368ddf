"""Report of a prefill: its masks are kept as the pass ends, and read back from the device when they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autoprune.runtime.cache import entries_before, layer_at, pruned_layer
from autoprune.runtime.call import PassState
from autoprune.runtime.pruner import Pruner


@dataclass(frozen=True)
class Report:
    """Report of a prefill: tokens, survivors and cache entries, layer by layer.

    Attributes:
        active: Whether anything was to prune: False for a text-only prompt and for a schedule without stages.
        tokens: LongTensor[L, B], tokens alive in each layer, text included, padding excluded.
        visual_tokens: LongTensor[L, B], the visual ones among them.
        kept: For each stage's layer and each sample, LongTensor of the positions that are left, visual and text,
            ascending, counted in the sample's own sequence from its start, cached tokens included, padding excluded.
        kv_entries: LongTensor[L, B], entries that each layer's cache holds; zero without a cache.
    """

    active: bool = False
    tokens: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    visual_tokens: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))
    kept: dict[int, list[Tensor]] = field(default_factory=dict)
    kv_entries: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.long))


Entries = tuple[Tensor, int]
"""Which entries are of tokens, BoolTensor[B, N], and how many of the last ones a cache layer holds."""


class PassNotes:
    """Masks and cache entries of one pass, kept for its report.

    Args:
        pruner: The pass.
        num_layers: Decoder layers.
        has_stages: Whether the schedule prunes at all.
        attention_mask: Of the call, [B, past + S] or anything else.
    """

    def __init__(self, pruner: Pruner, num_layers: int, has_stages: bool, attention_mask: Any) -> None:
        state = pruner.state
        self._active = has_stages and state.is_prefill
        self._valid, self._visual, self._fired = state.valid, state.visual, sorted(state.counts)
        # A pass without stages notes nothing layer by layer.
        self._alive = [pruner.alive_at.get(i, state.alive) for i in range(num_layers)]
        unpruned = _of_tokens(state, attention_mask)
        self._cached = unpruned[:, : state.past]
        self._entries = [_entries(state, i, unpruned) for i in range(num_layers)]

    @cached_property
    def report(self) -> Report:
        """The report, read back from the device."""
        positions = self._cached.sum(1, keepdim=True) + self._valid.cumsum(1) - 1
        return Report(
            active=self._active,
            tokens=_counts(self._alive),
            visual_tokens=_counts(self._alive, self._visual),
            kept={k: [p[alive].cpu() for p, alive in zip(positions, self._alive[k], strict=True)] for k in self._fired},
            kv_entries=self._kv_entries(),
        )

    def _kv_entries(self) -> Tensor:
        """LongTensor[L, B]; layers that hold the same are counted once."""
        counted = {
            (id(filled), held): filled[:, filled.shape[1] - held :].sum(1).cpu() for filled, held in self._entries
        }
        return torch.stack([counted[id(filled), held] for filled, held in self._entries])


def _counts(masks: Sequence[Tensor], among: Tensor | None = None) -> Tensor:
    """LongTensor[L, B]; layers between two stages share one mask, which is counted once."""
    counted = {id(mask): (mask if among is None else mask & among).sum(1) for mask in masks}
    return torch.stack([counted[id(mask)] for mask in masks]).cpu()


def _of_tokens(state: PassState, attention_mask: Any) -> Tensor:
    """BoolTensor[B, N]: which entries of a layer that was not pruned are of tokens, not of padding."""
    total = state.past + state.length
    if isinstance(attention_mask, Tensor) and attention_mask.ndim == 2:
        return attention_mask[:, :total].bool().to(state.valid.device)
    return torch.nn.functional.pad(state.valid, (state.past, 0), value=True)


def _entries(state: PassState, i: int, unpruned: Tensor) -> Entries:
    cached = layer_at(state.cache, i)
    if cached is None:
        return unpruned, 0
    total = state.past + state.length
    layer = pruned_layer(state.cache, i)
    if layer is not None:
        unpruned = layer.filled if layer.next_column == total else layer.logical(total)[1]
    return unpruned, min(int(cached.keys.shape[-2]), entries_before(state.cache, i, total))
