"""How many tokens each decoder layer runs on under a schedule."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.errors import DataError, ModelError, ScheduleError
from autoprune.schedule import Schedule


def check_counts(visual_tokens: int, text_tokens: int, new_tokens: int, text_before: int, images: int) -> None:
    """Refuse a prompt that cannot be.

    Raises:
        DataError: A count is negative, the prompt is empty, or more text is before the image than there is.
    """
    counts = {"visual_tokens": visual_tokens, "text_tokens": text_tokens, "new_tokens": new_tokens}
    for field, value in {**counts, "text_before": text_before, "images": images}.items():
        if value < 0:
            raise DataError("must be at least 0", field=field, value=value)
    if visual_tokens + text_tokens == 0:
        raise DataError("the prompt is empty", field="text_tokens", value=0, remedy="give at least one token")
    if text_before > text_tokens:
        raise DataError(f"must be at most text_tokens, {text_tokens}", field="text_before", value=text_before)


def check_layers(schedule: Schedule, depth: int) -> None:
    """Refuse a schedule that is deeper than the model.

    Raises:
        ModelError: A stage is out of range.
    """
    for index, stage in enumerate(schedule.stages):
        if stage.layer >= depth:
            raise ModelError(
                f"out of range: the model has layers 0 to {depth - 1}",
                field=f"stages[{index}].layer",
                value=stage.layer,
                remedy="use a layer of this model, or presets.for_depth to map published layers",
            )


def visual_alive(schedule: Schedule, visual_tokens: int, kept: Sequence[int] | None) -> list[int]:
    """Visual tokens before the first stage and after each stage.

    Raises:
        ScheduleError: `kept` is missing or contradicts the schedule.
    """
    if kept is not None and len(kept) != len(schedule.stages):
        raise ScheduleError(
            f"needs one number per stage, the schedule has {len(schedule.stages)}", field="kept", value=list(kept)
        )
    alive = [visual_tokens]
    for index, stage in enumerate(schedule.stages):
        if kept is not None:
            left = int(kept[index])
        elif stage.keep.kind in ("mass", "threshold"):
            raise ScheduleError(
                "how many tokens this keeps depends on the input",
                field=f"stages[{index}].keep.{stage.keep.kind}",
                value=stage.keep.value,
                remedy="pass kept=, the visual tokens alive after each stage",
            )
        else:
            left = stage.keep.target(visual_tokens, alive[-1])
        if not 0 <= left <= alive[-1]:
            raise ScheduleError(f"must be in 0 to {alive[-1]}, the tokens alive", field=f"kept[{index}]", value=left)
        alive.append(left)
    return alive


def tokens_per_layer(schedule: Schedule, alive: Sequence[int], text_tokens: int, depth: int) -> list[int]:
    """Tokens that each of `depth` layers runs on, given what `visual_alive` returned."""
    tokens = [text_tokens + alive[0]] * depth
    for stage, left in zip(schedule.stages, alive[1:], strict=True):
        tokens[stage.layer :] = [text_tokens + left] * (depth - stage.layer)
    return tokens
