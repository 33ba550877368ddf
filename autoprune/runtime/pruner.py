"""One forward pass under a schedule: its stages, their scores, and the layers that run on survivors only."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.cache import cached_keys, entries_before, pruned_layer
from autoprune.runtime.call import PassState
from autoprune.runtime.criteria import ScoreInputs, behaviour_of
from autoprune.runtime.criteria.attention import rater_rows, text_rows
from autoprune.runtime.decoder import attention_of
from autoprune.runtime.plan import Plan, ScoreKey
from autoprune.runtime.positions import Renumberer
from autoprune.runtime.refusals import answer_lost, not_finite, unobserved
from autoprune.runtime.shortened import Arguments, ShortenedCalls, hidden_of
from autoprune.runtime.survivors import adaptive_targets, choose, merged
from autoprune.runtime.tap import SeenAttention, Softmax, attention_ahead, tapped
from autoprune.schedule import Reads, Stage
from autoprune.schedule.criteria import COUNTS


class Pruner:
    """Runs the stages of a schedule inside one forward pass.

    Nothing outside a decoder layer ever sees a shortened sequence: survivors are gathered before a pruned layer and
    written back after it, so that deep-stacked features, norm, head, loss and hidden states need no knowledge of any
    family.

    Args:
        state: The pass.
        plan: What every pass does.
        renumberer: Gives tokens new positions.
    """

    def __init__(self, state: PassState, plan: Plan, renumberer: Renumberer) -> None:
        self.state, self.plan = state, plan
        self.alive_at: dict[int, Tensor] = {}
        self._calls = ShortenedCalls(state, plan.recurrent, plan.bidirectional, renumberer, plan.compact)
        self._embeddings: Tensor | None = None
        self._taps = ExitStack()
        self._seen: SeenAttention | None = None
        self._read_before: SeenAttention | None = None
        if plan.start is not None:
            plan.start.restore(state)
        self._survivors_at_start = state.survivors

    @property
    def columns(self) -> Tensor | None:
        """LongTensor[B, n]: the columns that the layer that runs now sees; None = all."""
        return None if self.state.survivors is None else self.state.survivors.index

    def close(self) -> None:
        """Stop observing; called after every layer and after a failed pass."""
        self._taps.close()
        self._seen = self._read_before = None

    def before_layer(self, i: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments | None:
        """The arguments with which the layer is to run; None = those that it has."""
        state = self.state
        state.cache = kwargs.get("past_key_values")
        if not state.is_prefill and self._is_plain(i, kwargs):
            return None
        if state.is_prefill:
            if self.plan.needs_raters and i == 0:
                self._find_raters(hidden_of(args, kwargs))
            if i == 0:
                for key in filter(self._is_recorded, self.plan.encoded):
                    state.scores[key] = self._score(key, hidden_of(args, kwargs), None)
            if not self._runs(i):
                return None
            if i in self.plan.stages:
                args, kwargs = self._run_stage(i, layer, args, kwargs)
                state.counts[i] = state.n_candidates
        self.alive_at[i] = state.alive
        call = self._calls.arguments(i, args, kwargs)
        if state.is_prefill and self._unknown(i):
            self._observe(i, layer)
        if state.survivors is not None:
            state.inputs[i] = hidden_of(args, kwargs)
            if i == 0:
                self._embeddings = state.inputs[0]
        return call

    def after_layer(self, i: int, output: Any) -> Any:
        """The layer's output at full length; its cache layer learns what it holds, and what was to be scored is."""
        state = self.state
        if not state.is_prefill or not self._runs(i):
            return output
        seen = self._seen
        self.close()
        full = state.inputs.pop(i, None)
        if full is not None and state.survivors is not None:
            self._calls.mark_cache(i, state.survivors)
            first = output[0] if isinstance(output, tuple) else output
            if i + 1 in self.plan.handed and i + 1 not in self.plan.stages:
                self._calls.hold(first)
                restored = full  # the next layer is handed this very tensor, and reads none of it
            else:
                restored = state.survivors.put(first, full)
            output = (restored, *output[1:]) if isinstance(output, tuple) else restored
        unknown = self._unknown(i)
        if unknown and seen is None:
            raise unobserved(i)
        for key in unknown:
            if self._is_recorded(key):
                hidden = output[0] if isinstance(output, tuple) else output
                state.scores[key] = self._score(key, hidden, seen)
            else:
                self._read_before = seen  # the stage before the next layer scores with the hidden states that enter it
        return output

    def restore_embeddings(self, output: Any) -> None:
        """Put the embeddings at full length first among the hidden states, where the model put the shortened ones."""
        states = getattr(output, "hidden_states", None)
        if self._embeddings is not None and states is not None:
            output.hidden_states = (self._embeddings, *states[1:])

    def check_complete(self) -> None:
        """Raise if a stage was due in this pass and did not run, or if a check on the device failed.

        Raises:
            PatchError: naming the layers, or what failed.
        """
        missed = sorted(self.plan.stages.keys() - self.state.counts.keys())
        if self.state.is_prefill and missed:
            raise PatchError(
                f"stages before layers {missed} did not run",
                field="schedule",
                value=missed,
                remedy="this model does not run its decoder layers one by one; pruning would be inactive",
            )
        self.state.verify()

    # -- stages ---------------------------------------------------------------------------------------------------

    def _run_stage(self, k: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """Drop what the stage drops; the arguments of the layer, in which it may have merged."""
        stage, state = self.plan.stages[k], self.state
        if stage.keep.ratio == 1.0:
            return args, kwargs
        candidates, before = state.candidates, state.n_candidates
        if stage.withdraws and any(state.ends_visual):
            raise answer_lost(k)
        if stage.withdraws:
            kept, counts = torch.zeros_like(candidates), (0,) * state.batch
        else:
            # A broken token that is dropped would hide that the model is broken. A withdrawal chooses nothing.
            broken = ~torch.isfinite(hidden_of(args, kwargs)).all(2).to(candidates.device) & candidates
            state.expect(broken.any(), not_finite(f"hidden states of visual tokens before layer {k}"))
            scores = self._scores_of(stage, layer, args, kwargs)
            kept, counts = self._choose(stage, scores, candidates)
        if counts == before:
            return args, kwargs
        state.drop(kept, counts)
        if any(state.ends_visual):
            state.expect((state.last_prompt & ~state.alive).any(), answer_lost(k))
        if stage.merge is None:
            return args, kwargs
        most_dropped = max(b - a for b, a in zip(before, counts, strict=True))
        hidden = merged(hidden_of(args, kwargs), kept, candidates & ~kept, max(counts), most_dropped)
        return ((hidden, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": hidden})

    def _choose(self, stage: Stage, scores: Tensor, candidates: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """The visual tokens that are kept, BoolTensor[B, S], and their number in each sample."""
        state, keep = self.state, stage.keep
        wrong = (~torch.isfinite(scores) & candidates).any()
        state.expect(wrong, not_finite(f"scores of the stage before layer {stage.layer}"))
        if keep.kind in COUNTS:
            counts = self._fixed_counts(stage)
            return choose(scores, candidates, torch.tensor(counts, device=scores.device)), counts
        targets, zero = adaptive_targets(scores, candidates, keep)
        error = PatchError(
            "all scores of a sample are zero, so that no token holds a share of them",
            field="keep.mass",
            value=keep.mass,
            remedy="use keep.ratio, or other attention rows",
        )
        state.expect(zero, error)
        return choose(scores, candidates, targets), tuple(targets.tolist())  # sizes of what follows depend on these

    def _fixed_counts(self, stage: Stage) -> tuple[int, ...]:
        """Visual tokens that a stage leaves in each sample; all that are alive where that depends on scores."""
        state = self.state
        if stage.keep.kind not in COUNTS:
            return state.n_candidates
        return tuple(stage.keep.target(n, a) for n, a in zip(state.n_visual, state.n_candidates, strict=True))

    # -- scores ---------------------------------------------------------------------------------------------------

    def _scores_of(self, stage: Stage, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """FloatTensor[B, S] for a stage about to choose."""
        criterion, state = stage.criterion, self.state
        assert criterion is not None  # a stage that selects has one
        key = (stage.layer, criterion)
        if self._is_given(key):
            return self._given(key)
        seen, self._read_before = self._read_before, None
        if criterion.reads is Reads.LAYER_ITSELF:
            seen = self._look_ahead(stage.layer, layer, args, kwargs)
        state.scores[key] = self._score(key, hidden_of(args, kwargs), seen)
        return state.scores[key]

    def _score(self, key: ScoreKey, hidden: Tensor, seen: SeenAttention | None) -> Tensor:
        """FloatTensor[B, S]: scores for a stage, from what its criterion reads, in full precision."""
        state, (k, criterion) = self.state, key
        stage = self.plan.stages.get(k)
        counts = state.n_candidates if stage is None else self._fixed_counts(stage)
        device, survivors = state.valid.device, state.survivors
        inputs = ScoreInputs(
            options=criterion,
            candidates=state.candidates,
            visual=state.visual,
            prompt=state.prompt,
            alive=state.alive,
            last=state.last_prompt,
            targets=torch.tensor(counts, device=device),
            n_visual=state.n_visual,
            n_text=state.n_text,
            n_prompt=state.n_prompt,
            n_candidates=state.n_candidates,
            n_targets=counts,
            hidden=hidden.detach(),
            query=seen.query if seen else None,
            key=seen.key if seen else None,
            mask=seen.mask if seen else None,
            softmax=seen.softmax if seen else Softmax(),
            index=survivors.index if survivors else None,
            present=survivors.valid if survivors else None,
            raters=state.raters,
            tower=state.tower,
            prepared=self.plan.prepared.get(criterion),
        )
        # Scores are fp32 also where the model runs under autocast.
        with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
            return behaviour_of(criterion).score(inputs).to(device)

    def _find_raters(self, embeddings: Tensor) -> None:
        state = self.state
        words = text_rows(state.prompt, state.visual)
        state.raters = rater_rows(embeddings, state.visual, words, max(state.n_visual), max(state.n_text))

    def _is_recorded(self, key: ScoreKey) -> bool:
        """Whether scores are only recorded, for no stage of this schedule."""
        return key[0] not in self.plan.stages

    def _is_given(self, key: ScoreKey) -> bool:
        """Whether scores recorded beforehand hold: those of decoder layers only while nothing was dropped since."""
        unchanged = self.state.survivors is self._survivors_at_start or key[1].reads is Reads.TOWER
        return unchanged and key in self.plan.given

    def _runs(self, i: int) -> bool:
        """Whether layer `i` runs in this pass; else its output is a recorded one."""
        return i >= self.plan.first and (self.plan.end is None or i < self.plan.end)

    def _given(self, key: ScoreKey) -> Tensor:
        scores, shape = self.plan.given[key], tuple(self.state.visual.shape)
        if tuple(scores.shape) != shape:
            raise PatchError(
                f"must be [batch, seq] of this prefill, {list(shape)}",
                field=f"scores of the stage before layer {key[0]}",
                value=list(scores.shape),
                remedy="give scores of this very batch, or leave them out",
            )
        return scores.to(self.state.visual.device)

    def _unknown(self, i: int) -> list[ScoreKey]:
        """The scores to be read from layer `i` in this pass."""
        return [key for key in self.plan.observed.get(i, ()) if not self._is_given(key)]

    def _observe(self, i: int, layer: nn.Module) -> None:
        """Note query and key of layer `i` as it runs."""
        attention = attention_of(self.plan.decoder, layer)
        assert attention is not None  # apply() refuses the schedule otherwise
        before = entries_before(self.state.cache, i, self.state.past)

        def note(seen: SeenAttention) -> None:
            self._seen = seen.without_free(before)

        self._taps.enter_context(tapped(attention, note))

    def _look_ahead(self, k: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> SeenAttention:
        """Query and key of the layer about to run, behind the keys that it has cached."""
        cache = self.state.cache
        attention = attention_of(self.plan.decoder, layer)
        assert attention is not None  # apply() refuses the schedule otherwise
        before = entries_before(cache, k, self.state.past)
        call, named = self._calls.arguments(k, args, kwargs)
        seen = attention_ahead(attention, layer, call, {**named, "past_key_values": None})
        if seen is None:
            raise unobserved(k)
        cached = cached_keys(cache, k, before)
        if cached is not None:
            if cached.shape[1::2] != seen.key.shape[1::2]:
                raise PatchError(
                    f"layer {k} caches what its keys are made from, not the keys that a score needs",
                    field="criterion.at",
                    value="current",
                    remedy="use 'previous', or start without a cache",
                )
            key = torch.cat([cached.to(seen.key.device), seen.key], 2)
            # A full static window returns one entry less.
            seen = seen._replace(key=key if seen.mask is None else key[:, :, -seen.mask.shape[3] :])
        return seen.without_free(before)

    # -- passes that prune nothing --------------------------------------------------------------------------------

    def _is_plain(self, i: int, kwargs: dict[str, Any]) -> bool:
        """Whether layer `i` of a pass that prunes nothing, such as a decode step, runs as it would without a patch."""
        cached = pruned_layer(self.state.cache, i)
        if cached is not None:
            cached.masked = kwargs.get("attention_mask") is None and cached.plain(self.state.length)
        return cached is None or cached.masked
