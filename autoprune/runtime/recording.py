"""Scores recorded in a dense forward pass: those that a first stage before any layer would use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager

from torch import Tensor, nn

from autoprune.errors import ModelError, PatchError
from autoprune.runtime.call import VisualMask
from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.patch import Patch, active_patch
from autoprune.runtime.pruner import Plan, ScoreKey
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
