"""The call of a decoder layer on survivors only: its arguments cut down, its mask, its positions, its cache layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from autoprune.runtime.cache import layer_at, mark_pruned, mask_offset, mask_width, pruned_layer
from autoprune.runtime.call import PassState
from autoprune.runtime.masks import pruned_mask, recurrent_mask
from autoprune.runtime.positions import Renumberer
from autoprune.runtime.survivors import Survivors

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and named arguments of a layer."""
_NOT_SEQUENCES = ("hidden_states", "past_key_values", "attention_mask", "position_embeddings", "position_ids")


class ShortenedCalls:
    """Calls of the decoder layers in one pass; what layers share is worked out once.

    Args:
        state: The pass.
        recurrent: Layers without attention.
        bidirectional: Layers whose attention is not causal where they get no mask.
        renumberer: Gives tokens new positions.
        compact: Whether survivors are renumbered.
    """

    def __init__(
        self,
        state: PassState,
        recurrent: frozenset[int],
        bidirectional: frozenset[int],
        renumberer: Renumberer,
        compact: bool,
    ) -> None:
        self._state, self._recurrent, self._bidirectional = state, recurrent, bidirectional
        self._renumberer, self._compact = renumberer, compact
        self._held: Tensor | None = None

    def hold(self, shortened: Tensor) -> None:
        """Keep the survivors' rows [B, n, d] for the next layer, which then need not be gathered."""
        self._held = shortened

    def arguments(self, i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """The arguments of layer `i` with every sequence in them cut down to the survivors."""
        state, survivors = self._state, self._state.survivors
        kwargs = self._renumbered(i, args, kwargs)
        if survivors is None:
            if state.past and pruned_layer(state.cache, i) is not None:
                kwargs = {**kwargs, "attention_mask": self._mask(i, kwargs.get("attention_mask"))}
            return args, kwargs
        new = dict(kwargs)
        for name, value in kwargs.items():
            if name not in _NOT_SEQUENCES and self._is_sequence(value):
                new[name] = survivors.take(value, 1)
        embeddings = kwargs.get("position_embeddings")
        if isinstance(embeddings, tuple):
            new["position_embeddings"] = tuple(survivors.take(t, t.ndim - 2) for t in embeddings)
        elif isinstance(embeddings, Tensor):
            new["position_embeddings"] = survivors.take(embeddings, embeddings.ndim - 2)
        if isinstance(kwargs.get("position_ids"), Tensor):
            new["position_ids"] = survivors.take(kwargs["position_ids"], kwargs["position_ids"].ndim - 1)
        recurrent = i in self._recurrent
        base = kwargs.get("attention_mask")
        new["attention_mask"] = recurrent_mask(survivors, state.past) if recurrent else self._mask(i, base)
        held, self._held = self._held, None
        hidden = survivors.rows_of(hidden_of(args, kwargs)) if held is None else held
        if "hidden_states" in kwargs:
            new["hidden_states"] = hidden
        return ((hidden, *args[1:]) if args else args), new

    def mark_cache(self, i: int, survivors: Survivors) -> None:
        """Tell cache layer `i` which columns it holds now."""
        state, cache = self._state, self._state.cache
        if layer_at(cache, i) is None:
            return
        layer = pruned_layer(cache, i)
        key = ("columns", id(survivors), id(layer.columns) if layer else None)
        if key not in state.memo:
            columns, filled, all_filled = self._past_columns(i)
            columns = torch.cat([columns, survivors.index + state.past], 1)
            filled = torch.cat([filled, survivors.valid], 1)
            state.memo[key] = (columns, filled, all_filled and survivors.all_valid, survivors, layer and layer.columns)
        columns, filled, all_filled = state.memo[key][:3]
        shift = self._shift(i)
        if self._compact:
            key = ("shift", id(survivors), id(shift))
            if key not in state.memo:
                dropped = (state.valid & ~survivors.alive).sum(1)
                state.memo[key] = (dropped if shift is None else dropped + shift.to(dropped.device), survivors, shift)
            shift = state.memo[key][0]
        mark_pruned(cache, i, columns, filled, state.past + state.length, all_filled, shift)

    def _shift(self, i: int) -> Tensor | None:
        """LongTensor[B]: how far back compact positions have moved in layer `i` before this pass; None = not at all."""
        layer = pruned_layer(self._state.cache, i)
        return layer.shift if layer is not None else None

    def _renumbered(self, i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments with compact positions, where this pass or the cache has them."""
        state, shift = self._state, self._shift(i)
        moves = self._compact and state.survivors is not None
        if shift is None and not moves:
            return kwargs
        given = (kwargs.get("position_ids"), kwargs.get("position_embeddings"))
        key = ("places", id(state.survivors), id(shift), *map(id, given))
        if key not in state.memo:
            back = torch.zeros(state.batch, 1, dtype=torch.long, device=state.valid.device)
            back = back if shift is None else back + shift.to(back.device)[:, None]
            if moves:
                back = back + (state.valid & ~state.alive).cumsum(1)
            # A pass that only goes on after a renumbered one runs in layers that were checked there.
            expect = state.expect if moves else None
            moved = self._renumberer.moved(kwargs, hidden_of(args, kwargs), back, expect)
            state.memo[key] = (moved, state.survivors, shift, given)  # keeps the ids taken
        embeddings, places = state.memo[key][0]
        return {**kwargs, "position_embeddings": embeddings, "position_ids": places}

    def _is_sequence(self, value: Any) -> bool:
        """Whether a value is a tensor [B or 1, S, …] that runs along the sequence."""
        state = self._state
        if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] != state.length:
            return False
        return value.shape[0] in (1, state.batch)

    def _mask(self, i: int, base: Tensor | None) -> Tensor | None:
        state, survivors = self._state, self._state.survivors
        layer = pruned_layer(state.cache, i)
        if layer is not None:
            layer.masked = True
        new = state.length if survivors is None else survivors.index.shape[1]
        width = mask_width(state.cache, i, new)
        offset = mask_offset(state.cache, i, state.length)
        causal = i not in self._bidirectional
        key = ("mask", id(base), id(survivors), id(layer.columns) if layer else None, width, offset, causal)
        if key not in state.memo:
            device = state.valid.device
            if survivors is None:
                rows = None
                row_columns = torch.arange(state.length, device=device).expand(state.batch, -1) + state.past
                row_valid, all_valid = torch.ones_like(row_columns, dtype=torch.bool), True
            else:
                rows, row_columns = survivors.index, survivors.index + state.past
                row_valid, all_valid = survivors.valid, survivors.all_valid
            columns, filled, all_filled = self._past_columns(i)
            columns, filled = torch.cat([columns, row_columns], 1), torch.cat([filled, row_valid], 1)
            free = width - columns.shape[1]
            if free > 0:  # a static cache is wider than what it holds
                columns, filled = pad(columns, (0, free)), pad(filled, (0, free))
            columns, filled = columns[:, -width:], filled[:, -width:]
            all_there = all_filled and all_valid and free <= 0
            mask = pruned_mask(base, rows, row_columns, columns, filled, all_there, offset, causal)
            state.memo[key] = (mask, base, survivors, layer and layer.columns)  # keeps the ids in the key taken
        result: Tensor | None = state.memo[key][0]
        return result

    def _past_columns(self, i: int) -> tuple[Tensor, Tensor, bool]:
        """Logical columns and validity of what layer `i` has cached before this pass."""
        state = self._state
        layer = pruned_layer(state.cache, i)
        if layer is not None:
            return *layer.logical(state.past), layer.all_filled
        columns = torch.arange(state.past, device=state.valid.device).expand(state.batch, -1)
        return columns, torch.ones_like(columns, dtype=torch.bool), True


def hidden_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden states [B, S, d] among a layer's arguments."""
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden
