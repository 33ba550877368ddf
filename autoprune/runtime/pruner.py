"""One forward pass under a schedule: stages, gathering, scattering, cache bookkeeping.

Nothing outside a decoder layer ever sees a shortened sequence: survivors are gathered before a pruned layer and written
back after it, so that deep-stacked features, norm, head, loss and hidden states need no knowledge of any family.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from autoprune.errors import PatchError
from autoprune.runtime.cache import (
    entries_before,
    layer_at,
    mark_pruned,
    mask_offset,
    mask_width,
    pruned_layer,
)
from autoprune.runtime.call import Context
from autoprune.runtime.criteria import Softmax, rater_rows
from autoprune.runtime.decoder import attention_of
from autoprune.runtime.masks import pruned_mask, recurrent_mask
from autoprune.runtime.plan import AttentionKey, Plan, ScoreKey
from autoprune.runtime.positions import Renumberer
from autoprune.runtime.scoring import observer, score_current, score_without_attention, text_rows, unseen
from autoprune.runtime.survivors import Frame, merged, survivors
from autoprune.runtime.tap import tapped
from autoprune.schedule import AttentionCriterion, EncoderCriterion, Stage

Call = tuple[tuple[Any, ...], dict[str, Any]]
_NOT_SEQUENCES = ("hidden_states", "past_key_values", "attention_mask", "position_embeddings", "position_ids")


class Pruner:
    """Runs the stages of a schedule inside one forward pass.

    Args:
        context: The pass.
        plan: What every pass does.
        renumberer: Gives tokens new positions.
    """

    def __init__(self, context: Context, plan: Plan, renumberer: Renumberer) -> None:
        self.context, self.plan, self.renumberer = context, plan, renumberer
        self.alive_at: dict[int, Tensor] = {}
        self._embeddings: Tensor | None = None
        self._taps = ExitStack()

    def close(self) -> None:
        """Stop observing; called after every layer and after a failed pass."""
        self._taps.close()

    # -- before a layer -------------------------------------------------------------------------------------------

    def before_layer(self, i: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call | None:
        """The arguments with which the layer is to run; None = those that it has."""
        context = self.context
        context.cache = kwargs.get("past_key_values")
        if not context.is_prefill and self._is_plain(i, kwargs):
            return None
        if context.is_prefill:
            if self.plan.needs_raters and i == 0:
                context.raters = rater_rows(_hidden(args, kwargs), context.visual, text_rows(context))
            if i in self.plan.stages:
                args, kwargs = self._run_stage(i, layer, args, kwargs)
        self.alive_at[i] = context.alive
        call = self._framed(i, layer, args, kwargs)
        if context.is_prefill:
            self._observe(i, layer)
        if context.frame is not None:
            context.inputs[i] = _hidden(args, kwargs)
            if i == 0:
                self._embeddings = context.inputs[0]
        return call

    def _is_plain(self, i: int, kwargs: dict[str, Any]) -> bool:
        """Whether layer `i` of a pass that prunes nothing, such as a decode step, runs as it would without a patch."""
        cached = pruned_layer(self.context.cache, i)
        return cached is None or (kwargs.get("attention_mask") is None and cached.plain(self.context.length))

    def _run_stage(self, k: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Drop what the stage drops; the arguments of the layer, in which it may have merged."""
        stage, context = self.plan.stages[k], self.context
        context.fired.add(k)
        candidates = context.visual & context.alive
        if stage.withdraws:
            kept = torch.zeros_like(candidates)
        elif not stage.selects:
            return args, kwargs
        else:
            kept = survivors(self._scores(stage, layer, args, kwargs), candidates, stage.keep, context.n_visual)
        if bool((kept == candidates).all()):
            return args, kwargs
        context.alive = context.alive & (~context.visual | kept)
        if bool((context.last_prompt & ~context.alive).any()):
            raise PatchError(
                "the last prompt token is visual and would be dropped, but the answer is read from it",
                field=f"stage before layer {k}",
                remedy="put the question after the image",
            )
        context.frame = Frame(context.alive)
        if stage.merge is None:
            return args, kwargs
        hidden = merged(_hidden(args, kwargs), kept, candidates & ~kept)
        return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

    def _scores(self, stage: Stage, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        context, criterion, k = self.context, stage.criterion, stage.layer
        if isinstance(criterion, EncoderCriterion):
            return self._given((k, criterion)) if (k, criterion) in self.plan.given else context.scores[k, criterion]
        if not isinstance(criterion, AttentionCriterion):
            candidates = context.visual & context.alive
            return score_without_attention(stage, context, candidates, _hidden(args, kwargs), self.plan.codebooks)
        if criterion.at == "current":
            attention = attention_of(self.plan.decoder, layer)
            assert attention is not None  # apply() refuses the schedule otherwise
            call = self._framed(k, layer, args, kwargs)
            before = entries_before(context.cache, k, context.past)
            return score_current(attention, layer, k, criterion, context, call, before)
        key = (k, criterion)
        return self._given(key) if self._is_given(key) else context.scores[key]

    def _given(self, key: ScoreKey) -> Tensor:
        scores, shape = self.plan.given[key], tuple(self.context.visual.shape)
        if tuple(scores.shape) != shape:
            raise PatchError(
                f"must be [batch, seq] of this prefill, {list(shape)}",
                field=f"scores of the stage before layer {key[0]}",
                value=list(scores.shape),
                remedy="give scores of this very batch, or leave them out",
            )
        return scores.to(self.context.visual.device)

    def _is_given(self, key: AttentionKey) -> bool:
        return self.context.frame is None and key in self.plan.given

    def _observe(self, i: int, layer: nn.Module) -> None:
        context = self.context
        keys = [key for key in self.plan.observed.get(i, ()) if not self._is_given(key)]
        attention = attention_of(self.plan.decoder, layer) if keys else None
        if attention is None:
            return
        before = entries_before(context.cache, i, context.past)
        scorers = [observer(context, key[1], before, partial(context.scores.__setitem__, key)) for key in keys]

        def observe(query: Tensor, key: Tensor, mask: Tensor | None, softmax: Softmax) -> None:
            for score in scorers:
                score(query, key, mask, softmax)

        self._taps.enter_context(tapped(attention, observe))

    # -- the shortened call ---------------------------------------------------------------------------------------

    def _framed(self, i: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """Every sequence in the arguments cut down to the survivors."""
        context, frame = self.context, self.context.frame
        kwargs = self._renumbered(i, args, kwargs)
        if frame is None:
            if context.past and pruned_layer(context.cache, i) is not None:
                kwargs = {**kwargs, "attention_mask": self._mask(i, kwargs.get("attention_mask"))}
            return args, kwargs
        new = dict(kwargs)
        for name, value in kwargs.items():
            if name not in _NOT_SEQUENCES and self._is_sequence(value):
                new[name] = frame.take(value, 1)
        embeddings = kwargs.get("position_embeddings")
        if isinstance(embeddings, tuple):
            new["position_embeddings"] = tuple(frame.take(t, t.ndim - 2) for t in embeddings)
        elif isinstance(embeddings, Tensor):
            new["position_embeddings"] = frame.take(embeddings, embeddings.ndim - 2)
        if isinstance(kwargs.get("position_ids"), Tensor):
            new["position_ids"] = frame.take(kwargs["position_ids"], kwargs["position_ids"].ndim - 1)
        recurrent = i in self.plan.recurrent
        base = kwargs.get("attention_mask")
        new["attention_mask"] = recurrent_mask(frame, context.past) if recurrent else self._mask(i, base)
        if "hidden_states" in kwargs:
            new["hidden_states"] = frame.rows_of(kwargs["hidden_states"])
        return tuple(frame.rows_of(a) if self._is_sequence(a) else a for a in args), new

    def _shift(self, i: int) -> Tensor | None:
        """LongTensor[B]: how far back compact positions have moved in layer `i` before this pass; None = not at all."""
        layer = pruned_layer(self.context.cache, i)
        return layer.shift if layer is not None else None

    def _renumbered(self, i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments with compact positions, where this pass or the cache has them."""
        context, shift = self.context, self._shift(i)
        moves = self.plan.compact and context.frame is not None
        if shift is None and not moves:
            return kwargs
        given = (kwargs.get("position_ids"), kwargs.get("position_embeddings"))
        key = ("places", id(context.frame), id(shift), *map(id, given))
        if key not in context.memo:
            back = torch.zeros(context.batch, 1, dtype=torch.long, device=context.valid.device)
            back = back if shift is None else back + shift.to(back.device)[:, None]
            if moves:
                back = back + (context.valid & ~context.alive).cumsum(1)
            # A pass that only goes on after a renumbered one runs in layers that were checked there.
            moved = self.renumberer.moved(kwargs, _hidden(args, kwargs), back, check=moves)
            context.memo[key] = (moved, context.frame, shift, given)  # keeps the ids taken
        embeddings, places = context.memo[key][0]
        return {**kwargs, "position_embeddings": embeddings, "position_ids": places}

    def _is_sequence(self, value: Any) -> bool:
        """Whether a value is a tensor [B or 1, S, …] that runs along the sequence."""
        context = self.context
        if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] != context.length:
            return False
        return value.shape[0] in (1, context.batch)

    def _mask(self, i: int, base: Tensor | None) -> Tensor | None:
        context, frame = self.context, self.context.frame
        layer = pruned_layer(context.cache, i)
        if layer is not None:
            layer.masked = True
        new = context.length if frame is None else frame.index.shape[1]
        width = mask_width(context.cache, i, new)
        offset = mask_offset(context.cache, i, context.length)
        causal = i not in self.plan.bidirectional
        key = ("mask", id(base), id(frame), id(layer.columns) if layer else None, width, offset, causal)
        if key not in context.memo:
            device = context.valid.device
            if frame is None:
                rows = None
                row_columns = torch.arange(context.length, device=device).expand(context.batch, -1) + context.past
                row_valid, all_valid = torch.ones_like(row_columns, dtype=torch.bool), True
            else:
                rows, row_columns = frame.index, frame.index + context.past
                row_valid, all_valid = frame.valid, frame.all_valid
            columns, filled, all_filled = self._past_columns(i)
            columns, filled = torch.cat([columns, row_columns], 1), torch.cat([filled, row_valid], 1)
            free = width - columns.shape[1]
            if free > 0:  # a static cache is wider than what it holds
                columns, filled = pad(columns, (0, free)), pad(filled, (0, free))
            columns, filled = columns[:, -width:], filled[:, -width:]
            all_there = all_filled and all_valid and free <= 0
            mask = pruned_mask(base, rows, row_columns, columns, filled, all_there, offset, causal)
            context.memo[key] = (mask, base, frame, layer and layer.columns)  # keeps the ids in the key taken
        result: Tensor | None = context.memo[key][0]
        return result

    def _past_columns(self, i: int) -> tuple[Tensor, Tensor, bool]:
        """Logical columns and validity of what layer `i` has cached before this pass."""
        context = self.context
        layer = pruned_layer(context.cache, i)
        if layer is not None:
            return *layer.logical(context.past), layer.all_filled
        columns = torch.arange(context.past, device=context.valid.device).expand(context.batch, -1)
        return columns, torch.ones_like(columns, dtype=torch.bool), True

    # -- after a layer --------------------------------------------------------------------------------------------

    def after_layer(self, i: int, output: Any) -> Any:
        """The layer's output at full length; its cache layer learns what it holds."""
        context, frame = self.context, self.context.frame
        if not context.is_prefill:
            return output
        self.close()
        missing = [
            key for key in self.plan.observed.get(i, ()) if not self._is_given(key) and key not in context.scores
        ]
        if missing:
            raise unseen(i)
        full = context.inputs.pop(i, None)
        if full is None or frame is None:
            return output
        self._mark_cache(i, frame)
        if isinstance(output, tuple):
            return (frame.put(output[0], full), *output[1:])
        return frame.put(output, full)

    def _mark_cache(self, i: int, frame: Frame) -> None:
        context, cache = self.context, self.context.cache
        if layer_at(cache, i) is None:
            return
        layer = pruned_layer(cache, i)
        key = ("columns", id(frame), id(layer.columns) if layer else None)
        if key not in context.memo:
            columns, filled, all_filled = self._past_columns(i)
            columns = torch.cat([columns, frame.index + context.past], 1)
            filled = torch.cat([filled, frame.valid], 1)
            context.memo[key] = (columns, filled, all_filled and frame.all_valid, frame, layer and layer.columns)
        columns, filled, all_filled = context.memo[key][:3]
        shift = self._shift(i)
        if self.plan.compact:
            key = ("shift", id(frame), id(shift))
            if key not in context.memo:
                dropped = (context.valid & ~frame.alive).sum(1)
                context.memo[key] = (dropped if shift is None else dropped + shift.to(dropped.device), frame, shift)
            shift = context.memo[key][0]
        mark_pruned(cache, i, columns, filled, context.past + context.length, all_filled, shift)

    def restore_embeddings(self, output: Any) -> None:
        """Put them at full length among hidden states, the first of which are what the first layer was handed."""
        states = getattr(output, "hidden_states", None)
        if self._embeddings is not None and states is not None:
            output.hidden_states = (self._embeddings, *states[1:])

    def check_complete(self) -> None:
        """Raise if a stage was due in this pass and did not run.

        Raises:
            PatchError: naming the layers.
        """
        missed = sorted(set(self.plan.stages) - self.context.fired)
        if self.context.is_prefill and missed:
            raise PatchError(
                f"stages before layers {missed} did not run",
                field="schedule",
                value=missed,
                remedy="this model does not run its decoder layers one by one; pruning would be inactive",
            )


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    return hidden
