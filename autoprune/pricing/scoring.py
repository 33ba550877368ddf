"""What it costs to score the visual tokens of one stage, and to merge them, as the runtime does it."""

from __future__ import annotations

from autoprune.errors import ScheduleError
from autoprune.pricing.architecture import Architecture
from autoprune.schedule import (
    AttentionCriterion,
    CodebookCriterion,
    DiversityCriterion,
    EncoderCriterion,
    RandomCriterion,
    Schedule,
    Stage,
    UniformCriterion,
)


def matching_macs(architecture: Architecture, schedule: Schedule, visual: int, text_rows: int) -> int:
    """Multiply-adds of finding the words that match the image, once for all stages whose rows are ``raters``."""
    criteria = [stage.criterion for stage in schedule.stages if stage.selects]
    asked = any(isinstance(criterion, AttentionCriterion) and criterion.rows == "raters" for criterion in criteria)
    return visual * text_rows * architecture.layers[0].hidden if asked else 0


def selection_macs(architecture: Architecture, stage: Stage, visual: int, kept: int, text: int, text_rows: int) -> int:
    """Multiply-adds of scoring and merging in one stage for one sample.

    Attention costs one product of the voting rows with every key alive, because an exact softmax row needs them all.
    ``at: current`` also runs the query, key and value projections of the layer about to run. ``raters`` is
    priced as if every word voted, which is its upper bound.

    Args:
        architecture: Shapes of the model.
        stage: The stage; its criterion is priced only if scores are needed.
        visual: Visual tokens alive before the stage.
        kept: Visual tokens alive after it.
        text: Text tokens of the prompt.
        text_rows: Text tokens after the first visual one: the rows that ``rows: text`` selects.

    Raises:
        ScheduleError: The criterion has no price.
    """
    if not stage.selects or visual == 0:
        return 0
    merging = (visual - kept) * kept * architecture.layers[stage.layer].hidden if stage.merge else 0
    return merging + _scoring_macs(architecture, stage, visual, text, text_rows)


def _scoring_macs(architecture: Architecture, stage: Stage, visual: int, text: int, text_rows: int) -> int:
    criterion, hidden = stage.criterion, architecture.layers[stage.layer].hidden
    if isinstance(criterion, RandomCriterion | UniformCriterion | EncoderCriterion):
        return 0  # the vision tower's own attention, read there: it is no cost of the decoder
    if isinstance(criterion, DiversityCriterion):
        return visual * visual * hidden
    if isinstance(criterion, CodebookCriterion) and criterion.prototypes is not None:
        return visual * criterion.prototypes * hidden
    if not isinstance(criterion, AttentionCriterion):
        lacks = isinstance(criterion, CodebookCriterion)
        raise ScheduleError(
            "cannot be priced without the number of prototypes" if lacks else "this criterion cannot be priced",
            field="criterion.prototypes" if lacks else "criterion",
            value=None if lacks or criterion is None else criterion.name,
            remedy="name it in the schedule" if lacks else "use another criterion",
        )
    tokens = text + visual
    voters = {"last": 1, "text": text_rows, "raters": text_rows, "visual": visual, "all": tokens}
    rows = voters[criterion.rows] + (voters[criterion.combine] if criterion.combine else 0)
    if criterion.at == "previous":
        return architecture.layers[stage.layer - 1].score_macs(rows, tokens)
    layer = architecture.layers[stage.layer]
    return layer.score_macs(rows, tokens) + tokens * layer.qkv_macs
