"""Multiply-adds of scoring the visual tokens of one stage, and of merging them, as the runtime does it."""

from __future__ import annotations

from autoprune.errors import ScheduleError
from autoprune.pricing.architecture import Architecture
from autoprune.runtime.criteria import ScoreWork, behaviour_of
from autoprune.schedule import Schedule, Stage


def matching_macs(architecture: Architecture, schedule: Schedule, visual: int, text_rows: int) -> int:
    """Multiply-adds of finding the words that match the image, once for all stages that ask for them."""
    asked = any(stage.criterion.asks_raters for stage in schedule.stages if stage.selects and stage.criterion)
    return visual * text_rows * architecture.layers[0].hidden if asked else 0


def selection_macs(architecture: Architecture, stage: Stage, visual: int, kept: int, text: int, text_rows: int) -> int:
    """Multiply-adds of scoring and merging in one stage for one sample.

    Args:
        architecture: Shapes of the model.
        stage: The stage; its criterion is priced only if scores are needed.
        visual: Visual tokens alive before the stage.
        kept: Visual tokens alive after it.
        text: Text tokens of the prompt.
        text_rows: Text tokens after the first visual one: the rows that ``rows: text`` selects.

    Raises:
        ScheduleError: The criterion lacks an option that its price depends on, or reads a layer without attention.
    """
    criterion = stage.criterion
    if not stage.selects or criterion is None or visual == 0:
        return 0
    index = criterion.layer_read(stage.layer)
    read = architecture.layers[stage.layer if index is None else index]
    if index is not None and read.recurrence is not None:
        raise ScheduleError(
            f"cannot be scored: layer {index} has no attention to read",
            field="stages.layer",
            value=stage.layer,
            remedy="prune before another layer, or by a criterion that reads no attention",
        )
    hidden = architecture.layers[stage.layer].hidden
    work = ScoreWork(
        candidates=visual,
        tokens=text + visual,
        text_rows=text_rows,
        width=hidden,
        heads=read.heads,
        query_width=read.heads * read.head_dim,
        qkv_macs=read.qkv_macs,
    )
    merging = (visual - kept) * kept * hidden if stage.merge else 0
    return merging + behaviour_of(criterion).macs(work, criterion)
