"""A patch that starts from recorded scores, as the passes of the evaluator do."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from autoprune.runtime import Patch, ScoreKey
from autoprune.runtime.call import VisualMask
from autoprune.runtime.decoder import find_decoder
from autoprune.runtime.plan import make_plan
from autoprune.schedule import Schedule


def apply_recorded(
    model: nn.Module, schedule: Schedule, visual_mask: VisualMask | None, scores: Mapping[ScoreKey, Tensor]
) -> Patch:
    """As `apply`, with scores used instead of observing, for stages before which nothing was dropped."""
    return Patch(model, schedule, visual_mask, make_plan(model, find_decoder(model), schedule, scores))
