"""Scores by generating, for models of which one pass over prompt and answer does not give what ``generate()`` sees.

The dense answer is forced upon the patched model token by token, inside its own ``generate``: that gives the logits
that predict it. Where they prefer another token, the model generates once more, freely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor

from autoprune.data.samples import SampleSet
from autoprune.evaluate.batch import PreparedBatch
from autoprune.evaluate.encoding import Forced
from autoprune.evaluate.greedy import generate_greedy, padding_token, run_generate
from autoprune.evaluate.memory import tensor_bytes
from autoprune.evaluate.metrics import Metric
from autoprune.evaluate.repeats import RepeatedRows
from autoprune.evaluate.verdicts import Answer, check_finite, first_mismatch
from autoprune.evaluate.vision import VisionCounter
from autoprune.models.loading import LoadedModel
from autoprune.runtime import apply, record
from autoprune.schedule import Schedule


@dataclass(frozen=True)
class SteppedPass:
    """The dense model's logits along its answers, one decode step after the other.

    Attributes:
        logits: [B, width, vocabulary], as the columns of one pass over prompts and continuations would give them.
        visual_mask: BoolTensor[B, S], visual tokens of the prompts in the layout of that pass.
    """

    logits: Tensor
    visual_mask: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of logits and mask."""
        return tensor_bytes(self.logits, self.visual_mask)


SteppedBatch = PreparedBatch[SteppedPass]
"""A batch on which schedules are scored by generating."""


def stepped_batch(
    loaded: LoadedModel,
    data: SampleSet,
    indices: tuple[int, ...],
    max_new_tokens: int,
    vision: VisionCounter,
    metric: Metric,
) -> SteppedBatch:
    """Samples encoded, answered by the dense model, and its logits along the answers.

    Args:
        loaded: The model.
        data: The set that the samples are taken from.
        indices: Their places in it.
        max_new_tokens: Longest answer.
        vision: Counts what encoding the images costs.
        metric: Judges the answers.

    Raises:
        EvaluationError: non-finite logits.
        ModelError: an answer holds the placeholder of an image.
    """
    return PreparedBatch.prepare(loaded, data, indices, max_new_tokens, partial(stepped_pass, loaded), vision, metric)


def stepped_pass(loaded: LoadedModel, rows: RepeatedRows, forced: Forced) -> SteppedPass:
    """The dense model's logits along its answers to a batch."""
    with record(loaded.model, ()) as recording:
        logits = stepped_logits(loaded, rows.inputs, forced)
    return SteppedPass(logits, _laid_out(recording.visual_mask, rows.inputs["attention_mask"], forced))


def stepped_answers(
    loaded: LoadedModel, batch: SteppedBatch, schedule: Schedule, max_new_tokens: int
) -> tuple[list[Answer], list[list[int]]]:
    """Answers under a schedule, and for each sample the visual tokens alive after each stage.

    Raises:
        EvaluationError: non-finite logits.
        PatchError: the schedule cannot be applied to this model or data.
    """
    with apply(loaded.model, schedule) as patch:
        logits = stepped_logits(loaded, batch.inputs, batch.forced)
        check_finite(logits, batch.forced)
        alive = patch.report.visual_tokens.tolist()
        kept = batch.kept(schedule, {stage.layer: alive[stage.layer] for stage in schedule.stages})
        if batch.has_choices:
            return batch.choice_answers(logits), kept
        decided = [mismatch is None for mismatch in first_mismatch(logits, batch.forced)]
        tokens = batch.continuations
        if not all(decided):
            padding = padding_token(loaded.model, loaded.processor)
            tokens = generate_greedy(loaded.model, batch.inputs, max_new_tokens, padding).tokens
    return batch.text_answers(tokens, batch.kl(logits), decided), kept


def stepped_logits(loaded: LoadedModel, inputs: Mapping[str, Any], forced: Forced) -> Tensor:
    """[B, width, vocabulary]: the logits that predict the continuations, each behind the tokens before it."""
    steps = _ForcedSteps(forced)
    run_generate(loaded.model, inputs, forced.width, padding_token(loaded.model, loaded.processor), steps)
    seen = torch.stack(steps.logits, 1).to(loaded.model.dtype)  # generate() has made them full precision
    logits = seen.new_zeros(*forced.valid.shape, seen.shape[-1])
    for row, length in enumerate(steps.lengths):
        logits[row, forced.width - length :] = seen[row, :length]
    return logits


class _ForcedSteps(LogitsProcessor):
    """Remembers the logits of each step, and lets each row go on with its continuation whatever they prefer."""

    def __init__(self, forced: Forced) -> None:
        self.logits: list[Tensor] = []
        self.lengths: list[int] = forced.valid.sum(1).tolist()
        self._rows = [forced.targets[row, forced.width - length :] for row, length in enumerate(self.lengths)]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        step = len(self.logits)
        self.logits.append(scores.clone())
        chosen = torch.full_like(scores, float("-inf"))
        for row, tokens in enumerate(self._rows):
            chosen[row, tokens[min(step, len(tokens) - 1)]] = 0.0
        return chosen


def _laid_out(visual: Tensor, attention_mask: Tensor, forced: Forced) -> Tensor:
    """A mask [B, S] over left-padded prompts as one over the prompts with their continuations."""
    found = torch.zeros_like(forced.inputs["attention_mask"], dtype=torch.bool)
    lengths = attention_mask.sum(1).tolist()
    for row, (length, end) in enumerate(zip(lengths, forced.ends.tolist(), strict=True)):
        found[row, end - length : end] = visual[row, -length:]
    return found
