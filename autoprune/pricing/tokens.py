"""Token counts that a price depends on: of a prompt, after each stage of a schedule, and in each decoder layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.errors import DataError, ModelError, ScheduleError
from autoprune.schedule import Schedule

if TYPE_CHECKING:
    from torch import Tensor

MODALITIES = "moe_mm_token_type_ids"
"""Which experts the tokens go to where modality chooses (ERNIE 4.5 VL): the name of that input; 0 = those of text."""
COUNTED_INPUTS = ("attention_mask", MODALITIES)
"""The inputs of a model that `count_prompts` reads."""


@dataclass(frozen=True)
class PromptCounts:
    """Token counts of one prompt and its answer.

    Attributes:
        visual: Visual tokens of the prompt.
        text: All other tokens of the prompt.
        text_before: Text tokens before the first visual one.
        new: Tokens of the dense model's answer, the end token included.
        vision_flops: FLOPs of vision tower and projector for this prompt; None where they were not counted.
        text_as_visual: Text tokens that the model sends to the experts of images: those at the start and end of one.
    """

    visual: int
    text: int
    text_before: int
    new: int
    vision_flops: int | None = None
    text_as_visual: int = 0

    @classmethod
    def of(
        cls, visual: Tensor, new: int, vision_flops: int | None = None, modalities: Tensor | None = None
    ) -> PromptCounts:
        """Counts of a prompt without padding.

        Args:
            visual: BoolTensor[n], which of its tokens are visual.
            new: Tokens of the dense model's answer.
            vision_flops: FLOPs of vision tower and projector.
            modalities: IntTensor[n], 0 at tokens that go to the experts of text; None where all experts are the same.
        """
        marks: list[bool] = visual.tolist()
        seen = sum(marks)
        routed = 0 if modalities is None else int((modalities.bool() & ~visual).sum())
        return cls(seen, len(marks) - seen, marks.index(True) if seen else 0, new, vision_flops, routed)


def count_prompts(
    inputs: Mapping[str, Tensor],
    ends: Tensor,
    visual_mask: Tensor,
    new: Sequence[int],
    vision_flops: Sequence[int | None] | None = None,
) -> list[PromptCounts]:
    """Token counts of each row of a batch.

    Args:
        inputs: What the model was given: `attention_mask` [B, S], and where it has experts for images also [B, S] which
            tokens they get.
        ends: LongTensor[B], column at which the prompt ends.
        visual_mask: BoolTensor[B, S].
        new: Tokens of each row's reference answer.
        vision_flops: FLOPs of vision tower and projector for each row; default: not counted.
    """
    valid, visual = inputs["attention_mask"].bool().cpu(), visual_mask.cpu()
    routes = inputs[MODALITIES].cpu() if MODALITIES in inputs else None
    counts = []
    for b, end in enumerate(ends.tolist()):
        present = (valid | visual)[b, :end]
        modalities = None if routes is None else routes[b, :end][present]
        flops = vision_flops[b] if vision_flops else None
        counts.append(PromptCounts.of(visual[b, :end][present], new[b], flops, modalities))
    return counts


def check_counts(
    visual_tokens: int, text_tokens: int, new_tokens: int, text_before: int, text_as_visual: int, images: int
) -> None:
    """Refuses token counts that no prompt has.

    Raises:
        DataError: A count is negative, the prompt is empty, or a part of the text is more than all of it.
    """
    counts = {"visual_tokens": visual_tokens, "text_tokens": text_tokens, "new_tokens": new_tokens}
    parts = {"text_before": text_before, "text_as_visual": text_as_visual}
    for field, value in {**counts, **parts, "images": images}.items():
        if value < 0:
            raise DataError("must be at least 0", field=field, value=value)
    if visual_tokens + text_tokens == 0:
        raise DataError("the prompt is empty", field="text_tokens", value=0, remedy="give at least one token")
    for field, value in parts.items():
        if value > text_tokens:
            raise DataError(f"must be at most text_tokens, {text_tokens}", field=field, value=value)


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
