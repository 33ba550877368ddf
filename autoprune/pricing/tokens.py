"""Token counts that a price depends on: of a prompt, after each stage of a schedule, and in each decoder layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.errors import DataError, ModelError, ScheduleError
from autoprune.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PromptCounts:
    """Token counts of one prompt and its answer.

    Attributes:
        visual: Visual tokens of the prompt.
        text: All other tokens of the prompt.
        text_before: Text tokens before the first visual one.
        new: Tokens of the dense model's answer, the end token included.
        vision_flops: FLOPs of vision tower and projector for this prompt; None where they were not counted.
    """

    visual: int
    text: int
    text_before: int
    new: int
    vision_flops: int | None = None

    @classmethod
    def of(cls, visual: Tensor, new: int, vision_flops: int | None = None) -> PromptCounts:
        """Counts of a prompt without padding.

        Args:
            visual: BoolTensor[n], which of its tokens are visual.
            new: Tokens of the dense model's answer.
            vision_flops: FLOPs of vision tower and projector.
        """
        marks: list[bool] = visual.tolist()
        seen = sum(marks)
        return cls(seen, len(marks) - seen, marks.index(True) if seen else 0, new, vision_flops)


def count_prompts(
    attention_mask: Tensor,
    ends: Tensor,
    visual_mask: Tensor,
    new: Sequence[int],
    vision_flops: Sequence[int | None] | None = None,
) -> list[PromptCounts]:
    """Token counts of each row of a batch.

    Args:
        attention_mask: [B, S].
        ends: LongTensor[B], column at which the prompt ends.
        visual_mask: BoolTensor[B, S].
        new: Tokens of each row's reference answer.
        vision_flops: FLOPs of vision tower and projector for each row; default: not counted.
    """
    valid, visual = attention_mask.bool().cpu(), visual_mask.cpu()
    rows = [visual[b, :end][(valid | visual)[b, :end]] for b, end in enumerate(ends.tolist())]
    return [PromptCounts.of(*row) for row in zip(rows, new, vision_flops or [None] * len(rows), strict=True)]


def check_counts(visual_tokens: int, text_tokens: int, new_tokens: int, text_before: int, images: int) -> None:
    """Refuses token counts that no prompt has.

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
    """Refuses a schedule that is deeper than the model.

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
    """Tokens that each decoder layer runs on in the prefill.

    Args:
        schedule: The schedule.
        alive: Visual tokens before the first stage and after each stage, as `visual_alive` returns them.
        text_tokens: All other tokens of the prompt.
        depth: Number of layers.
    """
    tokens = [text_tokens + alive[0]] * depth
    for stage, left in zip(schedule.stages, alive[1:], strict=True):
        tokens[stage.layer :] = [text_tokens + left] * (depth - stage.layer)
    return tokens
