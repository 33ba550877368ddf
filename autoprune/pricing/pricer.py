"""What each sample costs under a schedule, by its own token counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from autoprune.pricing.architecture import Architecture
from autoprune.pricing.cost import Cost, cost
from autoprune.schedule import Schedule, Stage


@dataclass(frozen=True)
class PromptCounts:
    """Token counts that a price depends on.

    Attributes:
        visual: Visual tokens of the prompt.
        text: All other tokens of the prompt.
        text_before: Text tokens before the first visual one.
        images: Images of the prompt.
        new: Tokens of the dense model's answer, the end token included.
    """

    visual: int
    text: int
    text_before: int
    images: int
    new: int


def count_prompts(
    attention_mask: Tensor, ends: Tensor, visual_mask: Tensor, images: Sequence[int], new: Sequence[int]
) -> list[PromptCounts]:
    """Counts of each row of a batch.

    Args:
        attention_mask: [B, S].
        ends: LongTensor[B], column at which the prompt ends.
        visual_mask: BoolTensor[B, S].
        images: Images of each row.
        new: Tokens of each row's reference answer.
    """
    valid, visual = attention_mask.bool().cpu(), visual_mask.cpu()
    counts = []
    for b, end in enumerate(ends.tolist()):
        seen = visual[b, :end]
        text = valid[b, :end] & ~seen
        before = int((text & (seen.cumsum(0) == 0)).sum()) if bool(seen.any()) else 0
        counts.append(PromptCounts(int(seen.sum()), int(text.sum()), before, images[b], new[b]))
    return counts


class Pricer:
    """Prices samples of one model; equal counts are priced once.

    Args:
        config: The model's config.
        dtype_bytes: Bytes of one number in the KV cache.

    Raises:
        ModelError: the structure of the model is not known.
    """

    def __init__(self, config: Any, dtype_bytes: int) -> None:
        self._architecture = Architecture.from_config(config)
        self._dtype_bytes = dtype_bytes
        self._known: dict[tuple[tuple[Stage, ...], PromptCounts, tuple[int, ...]], Cost] = {}

    def price(self, schedule: Schedule, counts: PromptCounts, kept: Sequence[int]) -> Cost:
        """The price of one sample.

        Args:
            schedule: The schedule.
            counts: Of the sample.
            kept: Visual tokens alive after each stage.
        """
        known = (schedule.stages, counts, tuple(kept))
        if known not in self._known:
            self._known[known] = cost(
                self._architecture,
                schedule,
                counts.visual,
                counts.text,
                counts.new,
                text_before=counts.text_before,
                kept=kept,
                images=counts.images,
                dtype_bytes=self._dtype_bytes,
            )
        return self._known[known]
