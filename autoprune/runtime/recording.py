"""Scores recorded in a pass: those that a next stage before any layer would use; and passes that start from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from autoprune.errors import ModelError, PatchError
from autoprune.runtime.call import VisualMask
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.runtime.patch import Patch, active_patch
from autoprune.runtime.plan import Plan, ScoreKey, make_plan
from autoprune.runtime.standing import Standing
from autoprune.schedule import Reads, Schedule


class Recording:
    """Scores and visual tokens of a dense pass.

    Attributes:
        scores: {(stage layer, criterion): FloatTensor[B, S]}.
        visual_mask: BoolTensor[B, S].
    """

    def __init__(self, patch: Patch) -> None:
        self._patch = patch

    @property
    def scores(self) -> dict[ScoreKey, Tensor]:
        """Scores that a first stage at these layers would use."""
        return self._patch.scores

    @property
    def visual_mask(self) -> Tensor:
        """Visual tokens of the prompt.

        Raises:
            PatchError: no forward pass ran yet.
        """
        if self._patch.visual is None:
            raise PatchError("nothing was recorded", remedy="run one forward pass inside the context manager")
        return self._patch.visual

    def prompt(self, lengths: Tensor | int) -> AbstractContextManager[Patch]:
        """As `Patch.prompt`."""
        return self._patch.prompt(lengths)


@contextmanager
def record(model: nn.Module, keys: Iterable[ScoreKey], visual_mask: VisualMask | None = None) -> Iterator[Recording]:
    """Observe dense forward passes without changing them.

    Args:
        model: A model as `apply` takes it.
        keys: (stage layer k, criterion, of attention with at="previous" or of the vision tower): the scores that a
            stage at k would use.
        visual_mask: As in `apply`.

    Raises:
        ModelError: a key names a layer that has no layer before it, or scores that are not read from it.
        PatchError: the model is pruned by a patch, so that its passes are not dense.
    """
    if active_patch(model) is not None:
        raise PatchError(
            "the model is patched, its passes are not dense", field="model", remedy="remove the patch first"
        )
    observed: dict[int, tuple[ScoreKey, ...]] = {}
    encoded: list[ScoreKey] = []
    decoder = find_decoder(model)
    depth = len(decoder_layers(decoder))
    for k, criterion in keys:
        if criterion.reads is Reads.TOWER:
            encoded.append((k, criterion))
            continue
        if not 1 <= k < depth or criterion.reads is not Reads.LAYER_BEFORE:
            raise ModelError("scores of this stage are not read from the layer before", field="layer", value=k)
        observed[k - 1] = (*observed.get(k - 1, ()), (k, criterion))
    patch = Patch(model, Schedule(), visual_mask, Plan(decoder, observed=observed, encoded=tuple(encoded)))
    try:
        yield Recording(patch)
    finally:
        patch.remove()


class Replays:
    """Passes over recorded batches under one schedule after another, each of which runs some of the layers."""

    def __init__(self, model: nn.Module, decoder: nn.Module, patch: Patch) -> None:
        self._model, self._decoder, self._patch = model, decoder, patch
        self._visual = self._ends = torch.zeros(0)

    def over(self, visual_mask: Tensor, ends: Tensor) -> None:
        """Set the batch of the passes that come next.

        Args:
            visual_mask: BoolTensor[B, S], visual tokens of the prompts.
            ends: LongTensor[B], columns at which the prompts end.
        """
        self._visual, self._ends = visual_mask, ends

    def follow(
        self,
        schedule: Schedule,
        scores: Mapping[ScoreKey, Tensor],
        start: Standing | None,
        layers: range,
        keys: Iterable[ScoreKey] = (),
        handed: Collection[int] = (),
    ) -> None:
        """Set what the next pass does.

        Args:
            schedule: What it prunes; stages before `layers` have run.
            scores: Scores recorded behind those stages.
            start: Tokens alive behind those stages; None = all.
            layers: The layers that run.
            keys: (stage layer, criterion): scores to record for stages behind all of `schedule`.
            handed: Layers whose hidden states are the very output of the layer before, which nothing else reads.

        Raises:
            ModelError: the schedule was made for another model.
            PatchError: a criterion cannot be computed in this model.
        """
        schedule.check_model(self._model.config)
        given = {key: scores[key] for key in _keys(schedule) if key in scores}
        plan = make_plan(self._model, self._decoder, schedule, given)
        observed = dict(plan.observed)
        layers_of = decoder_layers(self._decoder)
        for k, criterion in keys:
            if attention_of(self._decoder, layers_of[k - 1]) is None:
                continue  # the stage that asks for it will say so
            observed[k - 1] = (*observed.get(k - 1, ()), (k, criterion))
        plan = replace(
            plan, observed=observed, start=start, first=layers.start, end=layers.stop, handed=frozenset(handed)
        )
        self._patch.follow(schedule, plan, self._visual, self._ends)

    @property
    def standing(self) -> Standing:
        """Tokens that the last pass left alive."""
        assert self._patch.standing is not None  # after a pass
        return self._patch.standing

    @property
    def columns(self) -> Tensor | None:
        """LongTensor[B, n]: the columns that the layer that runs now sees; None = all."""
        return self._patch.columns

    @property
    def scores(self) -> dict[ScoreKey, Tensor]:
        """Scores that the last pass observed."""
        return self._patch.scores


def _keys(schedule: Schedule) -> list[ScoreKey]:
    return [(stage.layer, stage.criterion) for stage in schedule.stages if stage.criterion is not None]


@contextmanager
def replaying(model: nn.Module) -> Iterator[Replays]:
    """Run passes part of whose layers return what an earlier pass over the same batch recorded.

    Args:
        model: The model; a patch that it carries is removed.
    """
    decoder = find_decoder(model)
    patch = Patch(model, Schedule(), None, Plan(decoder))
    try:
        yield Replays(model, decoder, patch)
    finally:
        patch.remove()
