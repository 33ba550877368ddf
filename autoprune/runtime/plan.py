"""What a patch is to do in every pass, worked out once: stages by layer, what to observe where, codebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.codebook import read_prototypes
from autoprune.runtime.decoder import attention_of, decoder_layers
from autoprune.schedule import AttentionCriterion, CodebookCriterion, EncoderCriterion, Schedule, Stage

AttentionKey = tuple[int, AttentionCriterion]
ScoreKey = AttentionKey | tuple[int, EncoderCriterion]
"""The layer of a stage and its criterion: what scores are kept by."""


@dataclass(frozen=True)
class Plan:
    """What every pass does.

    Attributes:
        decoder: The text model.
        stages: Stage of each layer that has one.
        observed: For each layer, the scores to read from its attention.
        encoded: Scores to read from the attention of the vision tower.
        given: Scores known beforehand; those of attention are used while nothing was dropped yet.
        codebooks: Prototypes [P, d] of each codebook.
        compact: Whether survivors are renumbered.
    """

    decoder: nn.Module
    stages: Mapping[int, Stage] = field(default_factory=dict)
    observed: Mapping[int, tuple[AttentionKey, ...]] = field(default_factory=dict)
    encoded: tuple[tuple[int, EncoderCriterion], ...] = ()
    given: Mapping[ScoreKey, Tensor] = field(default_factory=dict)
    codebooks: Mapping[CodebookCriterion, Tensor] = field(default_factory=dict)
    compact: bool = False

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
        """Whether some stage is scored by the words that match the image."""
        asked = [key[1] for keys in self.observed.values() for key in keys]
        asked += [s.criterion for s in self.stages.values() if isinstance(s.criterion, AttentionCriterion)]
        return any(criterion.rows == "raters" for criterion in asked)


def make_plan(model: nn.Module, decoder: nn.Module, schedule: Schedule, given: Mapping[ScoreKey, Tensor]) -> Plan:
    """The plan of a schedule for one model.

    Raises:
        PatchError: a criterion cannot be computed in this model.
    """
    observed: dict[int, tuple[AttentionKey, ...]] = {}
    encoded: list[tuple[int, EncoderCriterion]] = []
    codebooks: dict[CodebookCriterion, Tensor] = {}
    for stage in schedule.stages:
        criterion = stage.criterion
        if not stage.selects:
            continue
        if isinstance(criterion, AttentionCriterion):
            previous = criterion.at == "previous"
            _check_attention_at(decoder, stage.layer - previous, stage.layer, criterion)
            if previous:
                observed[stage.layer - 1] = ((stage.layer, criterion),)
        elif isinstance(criterion, CodebookCriterion):
            if stage.layer:
                raise PatchError(
                    "prototypes are compared with the tokens that enter the decoder, not with deeper states",
                    field="layer",
                    value=stage.layer,
                    remedy="use the codebook before layer 0",
                )
            parts: Any = decoder
            codebooks[criterion] = read_prototypes(criterion, parts.config.hidden_size, model)
        elif isinstance(criterion, EncoderCriterion) and (stage.layer, criterion) not in given:
            encoded.append((stage.layer, criterion))
    stages = {stage.layer: stage for stage in schedule.stages}
    return Plan(decoder, stages, observed, tuple(encoded), given, codebooks, schedule.positions == "compact")


def _check_attention_at(decoder: nn.Module, i: int, stage: int, criterion: AttentionCriterion) -> None:
    layers = decoder_layers(decoder)
    if attention_of(decoder, layers[i]) is None:
        possible = [k for k, layer in enumerate(layers) if attention_of(decoder, layer) is not None]
        raise PatchError(
            f"the scores of the stage before layer {stage} are read from layer {i}, which has no attention",
            field="criterion.at",
            value=criterion.at,
            remedy=f"only layers {possible} have attention: score in one of them, or use diversity or withdraw",
        )
