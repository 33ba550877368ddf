"""What it costs to score the visual tokens of one stage, as the runtime does it."""

from __future__ import annotations

from autoprune.errors import ScheduleError
from autoprune.measure.architecture import Architecture
from autoprune.schedule import AttentionCriterion, DiversityCriterion, RandomCriterion, Stage, UniformCriterion


def scoring_macs(architecture: Architecture, stage: Stage, visual: int, text: int, text_rows: int) -> int:
    """Multiply-adds of the scores of one stage for one sample.

    Attention costs one product of the voting rows with every key alive, because an exact softmax row needs them all.
    ``at: current`` also runs the query, key and value projections of the layer about to run.

    Args:
        architecture: Shapes of the model.
        stage: The stage; its criterion is priced only if scores are needed.
        visual: Visual tokens alive before the stage.
        text: Text tokens of the prompt.
        text_rows: Text tokens after the first visual one: the rows that ``rows: text`` selects.

    Raises:
        ScheduleError: The criterion has no price.
    """
    criterion = stage.criterion
    if not stage.selects or visual == 0 or isinstance(criterion, RandomCriterion | UniformCriterion):
        return 0
    if isinstance(criterion, DiversityCriterion):
        return visual * visual * architecture.layers[stage.layer].hidden
    if not isinstance(criterion, AttentionCriterion):
        raise ScheduleError(
            "this criterion cannot be priced",
            field="criterion",
            value=criterion.name if criterion else None,
            remedy="use attention, diversity, random or uniform",
        )
    tokens = text + visual
    rows = {"last": 1, "text": text_rows, "visual": visual, "all": tokens}[criterion.rows]
    if criterion.at == "previous":
        return architecture.layers[stage.layer - 1].score_macs(rows, tokens)
    layer = architecture.layers[stage.layer]
    return layer.score_macs(rows, tokens) + tokens * layer.qkv_macs
