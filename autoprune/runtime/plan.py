"""The plan of a patched model: what every pass observes, scores and drops, worked out once from a schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.criteria import prepared
from autoprune.runtime.decoder import attention_of, decoder_layers
from autoprune.runtime.standing import Standing
from autoprune.schedule import Criterion, Reads, Schedule, Stage

ScoreKey = tuple[int, Criterion]
"""The layer of a stage and its criterion: what scores are kept by."""


@dataclass(frozen=True)
class Plan:
    """Stages, observed scores and prepared tensors of a patched model, the same in every pass.

    Attributes:
        decoder: The text model.
        stages: Stage of each layer that has one.
        observed: For each layer, the scores to read from its attention as it runs.
        encoded: Scores to read from the attention of the vision tower.
        given: Scores known beforehand; those of attention are used while nothing was dropped since `start`.
        prepared: What criteria have read from disk.
        compact: Whether survivors are renumbered.
        start: Tokens alive where the pass goes on; None = all.
        first: First layer that runs; those before it return what an earlier pass recorded.
        end: One past the last layer that runs; None = the last layer of the model.
        handed: Layers whose hidden states are the very output of the layer before, of which nobody else reads the
            tokens that were dropped.
    """

    decoder: nn.Module
    stages: Mapping[int, Stage] = field(default_factory=dict)
    observed: Mapping[int, tuple[ScoreKey, ...]] = field(default_factory=dict)
    encoded: tuple[ScoreKey, ...] = ()
    given: Mapping[ScoreKey, Tensor] = field(default_factory=dict)
    prepared: Mapping[Criterion, Tensor] = field(default_factory=dict)
    compact: bool = False
    start: Standing | None = None
    first: int = 0
    end: int | None = None
    handed: frozenset[int] = frozenset()

    @cached_property
    def recurrent(self) -> frozenset[int]:
        """The layers without attention."""
        layers = decoder_layers(self.decoder)
        return frozenset(i for i, layer in enumerate(layers) if attention_of(self.decoder, layer) is None)

    @cached_property
    def bidirectional(self) -> frozenset[int]:
        """The layers whose attention is not causal where they get no mask."""
        attentions = [attention_of(self.decoder, layer) for layer in decoder_layers(self.decoder)]
        return frozenset(i for i, part in enumerate(attentions) if getattr(part, "is_causal", True) is False)

    @cached_property
    def needs_raters(self) -> bool:
        """Whether some scores ask for the words that match the image."""
        asked = [criterion for keys in self.observed.values() for _, criterion in keys]
        asked += [stage.criterion for stage in self.stages.values() if stage.criterion is not None]
        return any(criterion.asks_raters for criterion in asked)


def make_plan(model: nn.Module, decoder: nn.Module, schedule: Schedule, given: Mapping[ScoreKey, Tensor]) -> Plan:
    """The plan of a schedule for one model.

    Raises:
        PatchError: a criterion cannot be computed in this model.
    """
    observed: dict[int, tuple[ScoreKey, ...]] = {}
    encoded: list[ScoreKey] = []
    read: dict[Criterion, Tensor] = {}
    parts: Any = decoder
    for stage in schedule.stages:
        criterion = stage.criterion
        if not stage.selects or criterion is None:
            continue
        problem, key = criterion.problem_at(stage.layer), (stage.layer, criterion)
        if problem:
            raise PatchError(problem, field="layer", value=stage.layer)
        if criterion.reads is Reads.LAYER_BEFORE:
            _check_attention_at(decoder, stage.layer - 1, stage.layer)
            observed[stage.layer - 1] = (key,)
        elif criterion.reads is Reads.LAYER_ITSELF:
            _check_attention_at(decoder, stage.layer, stage.layer)
        elif criterion.reads is Reads.TOWER and key not in given:
            encoded.append(key)
        found = prepared(criterion, parts.config.hidden_size, model)
        if found is not None:
            read[criterion] = found
    stages = {stage.layer: stage for stage in schedule.stages}
    return Plan(decoder, stages, observed, tuple(encoded), given, read, schedule.positions == "compact")


def _check_attention_at(decoder: nn.Module, i: int, stage: int) -> None:
    layers = decoder_layers(decoder)
    if attention_of(decoder, layers[i]) is None:
        possible = [k for k, layer in enumerate(layers) if attention_of(decoder, layer) is not None]
        raise PatchError(
            f"the scores of the stage before layer {stage} are read from layer {i}, which has no attention",
            field="criterion.at",
            value="current" if i == stage else "previous",
            remedy=f"only layers {possible} have attention: score in one of them, or use diversity or withdraw",
        )
