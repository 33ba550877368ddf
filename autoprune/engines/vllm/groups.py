"""The prompts of one step in groups of about the same length, so that filling up the short ones costs little."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autoprune.engines.vllm.scores import PromptBatch, SeenLayer
from autoprune.engines.vllm.steps import StepPlan
from autoprune.schedule import Criterion, Stage

PAIRS_AT_ONCE = 2**22
"""Prompts times the square of the longest: bounds what rows of attention of one group need at 16 MB times heads."""


def grouped(lengths: Sequence[int], most: int = PAIRS_AT_ONCE) -> list[list[int]]:
    """Indices of prompts in groups, the longest first; in each the number times the square of the longest is bounded.

    Args:
        lengths: Tokens of each prompt.
        most: The bound; a prompt that is longer by itself is a group of its own.
    """
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] ** 2 <= most:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


class PromptGroups:
    """`PromptBatch` for all prompts that one step prunes, a group at a time.

    Args:
        plan: The step.
        prepared: What criteria have read from disk.
        device: Of the model.
    """

    def __init__(self, plan: StepPlan, prepared: Mapping[Criterion, Tensor], device: torch.device) -> None:
        lengths = [plan.requests[i].rows for i in plan.pruned]
        self._batches = [PromptBatch(plan.only(group), prepared, device) for group in grouped(lengths)]

    @property
    def broken(self) -> tuple[Tensor, tuple[str, ...]]:
        """BoolTensor[P]: what a prompt was pruned by is not finite; and the names of the P requests."""
        flags = torch.cat([batch.broken for batch in self._batches])
        return flags, tuple(name for batch in self._batches for name in batch.names)

    def find_raters(self, embeddings: Tensor) -> None:
        """Note the words that match the images, from [T, d], the rows of the step as they enter the decoder."""
        for batch in self._batches:
            batch.find_raters(embeddings)

    def choose(self, stage: Stage, number: int, hidden: Tensor, seen: SeenLayer | None) -> Tensor:
        """Drop what a stage drops; BoolTensor[T], the rows that go on. Arguments as of `PromptBatch.choose`."""
        stays = [batch.choose(stage, number, hidden, seen) for batch in self._batches]
        return torch.stack(stays).all(0)

    def merged(self, hidden: Tensor) -> Tensor:
        """States [T, d] in which tokens that the last choice kept are means of themselves and of those like them."""
        for batch in self._batches:
            hidden = batch.merged(hidden)
        return hidden

    def go_on(self, rows: Tensor) -> None:
        """Note which rows are left, by their indices LongTensor[n]."""
        for batch in self._batches:
            batch.go_on(rows)
