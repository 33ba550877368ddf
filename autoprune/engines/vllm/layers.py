"""Stages between the decoder layers of a model of vLLM: the layers run one by one, on the rows that are left."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from vllm.forward_context import get_forward_context

from autoprune.engines.vllm.flags import FiniteScores
from autoprune.engines.vllm.groups import PromptGroups
from autoprune.engines.vllm.running import EngineStep
from autoprune.engines.vllm.scores import SeenLayer, rows_where
from autoprune.engines.vllm.steps import DroppedTokens, StepPlan, lengths_by_layer
from autoprune.errors import PatchError
from autoprune.runtime.tap import Softmax
from autoprune.schedule import Criterion, Reads, Schedule

_REMEMBERED = 1024
"""Prompts whose lengths are kept for a report."""


class PrunedLayers:
    """The decoder layers of one model under a schedule.

    Args:
        decoder: The text model: `layers`, each called with positions, hidden states and residual, and `norm`.
        schedule: The schedule.
        prepared: What its criteria have read from disk.

    Attributes:
        lengths: Tokens in each layer of the latest prompts, by request.
    """

    def __init__(self, decoder: Any, schedule: Schedule, prepared: Mapping[Criterion, Tensor]) -> None:
        self._layers: Sequence[Any] = list(decoder.layers)
        self._norm = decoder.norm
        self._stages = schedule.stages
        self._number = {stage.layer: i for i, stage in enumerate(schedule.stages)}
        self._compact = schedule.positions == "compact"
        self._prepared = prepared
        self._criteria = [stage.criterion for stage in schedule.stages if stage.selects and stage.criterion]
        self._names = [layer.self_attn.attn.layer_name for layer in self._layers]
        self._dropped = DroppedTokens(tuple(stage.keep for stage in schedule.stages))
        self._finite = FiniteScores()
        self._seen: dict[int, SeenLayer] = {}
        self._observes = False
        self.lengths: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        for stage in schedule.stages:
            if stage.selects and stage.criterion and stage.criterion.reads is Reads.LAYER_BEFORE:
                self._observe(stage.layer - 1)

    def run(self, step: EngineStep, hidden: Tensor | None, positions: Tensor) -> Tensor | None:
        """The final states of a step.

        Args:
            step: The step.
            hidden: [T, d], the embeddings that enter the decoder; None if the model embeds tokens by itself, as it
                does where no request has an image.
            positions: [T] or [3, T].

        Returns:
            [T, d], where rows that were dropped have their last state, as `autoprune.apply` leaves it; None if no
            request has dropped tokens, so that the model can run as it is.

        Raises:
            PatchError: scores of an earlier step were not finite; or tokens are to be dropped, or have been, and there
                are no embeddings.
        """
        self._finite.check()
        plan = self._dropped.plan(step.requests, step.living)
        for name, lengths in lengths_by_layer(plan, tuple(self._number), len(self._layers)).items():
            self.lengths[name] = lengths
            self.lengths.move_to_end(name)
        while len(self.lengths) > _REMEMBERED:
            self.lengths.popitem(last=False)
        if plan.is_dense:
            return None
        if hidden is None:
            raise PatchError(
                "a step of requests that have dropped tokens came without embeddings",
                field="request",
                value=[request.name for request in step.requests],
            )
        context = get_forward_context()
        whole = context.attn_metadata, context.slot_mapping
        context.attn_metadata, context.slot_mapping = dict(whole[0]), dict(whole[1])
        self._observes = bool(plan.pruned)
        try:
            return self._run(step, plan, hidden, positions, context)
        finally:
            context.attn_metadata, context.slot_mapping = whole
            self._observes = False
            self._seen.clear()

    def _run(self, step: EngineStep, plan: StepPlan, hidden: Tensor, positions: Tensor, context: Any) -> Tensor:
        total = int(plan.segments[0].rows.sum())
        out = hidden.new_zeros(hidden.shape)
        hidden, positions = hidden[:total], positions[..., :total]
        residual: Tensor | None = None
        rows = torch.arange(total, device=hidden.device)
        batch = PromptGroups(plan, self._prepared, hidden.device) if plan.pruned else None
        if batch is not None and any(criterion.asks_raters for criterion in self._criteria):
            batch.find_raters(hidden)
        for i, layer in enumerate(self._layers):
            if i in self._number:
                number = self._number[i]
                before, segment = plan.segments[number : number + 2]
                lost = int(before.rows.sum() - segment.rows.sum())
                if batch is not None and lost:
                    state = hidden if residual is None else hidden + residual
                    stays = batch.choose(self._stages[number], number, state, self._seen.pop(i - 1, None))
                    kept, gone = rows_where(stays, len(rows) - lost), rows_where(~stays, lost)
                    out[rows[gone]] = self._norm(state[gone])
                    if self._stages[number].merge:
                        hidden, residual = batch.merged(state), None
                    hidden, positions, rows = hidden[kept], positions[..., kept], rows[kept]
                    residual = None if residual is None else residual[kept]
                    batch.go_on(kept)
                metadata, slots, places = step.metadata(segment)
                context.attn_metadata |= dict.fromkeys(self._names[i:], metadata)
                context.slot_mapping |= dict.fromkeys(self._names[i:], slots)
                if self._compact:
                    positions = places
            hidden, residual = layer(positions, hidden, residual)
        out[rows] = self._norm(hidden, residual)[0]
        if batch is not None:
            self._finite.expect(*batch.broken)
            self._finite.check()  # known by now where nothing runs apart from the host
        return out

    def _observe(self, i: int) -> None:
        attention = self._layers[i].self_attn.attn
        softmax = Softmax(scaling=self._layers[i].self_attn.scaling)

        def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
            if self._observes:
                query, key = (part.reshape(len(part), -1, attention.head_size) for part in given[:2])
                self._seen[i] = SeenLayer(query, key, softmax)

        attention.register_forward_pre_hook(note)
