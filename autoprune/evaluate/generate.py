"""The slow truth: every answer by ``generate()`` under the patch, every probability by a plain patched forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from autoprune.data.rows import Sample
from autoprune.data.samples import SampleSet
from autoprune.evaluate.batch import plan_batches, rows
from autoprune.evaluate.encoding import Forced, choice_tokens, encode, force, to_device
from autoprune.evaluate.greedy import generate_greedy, padding_token, reference_answers
from autoprune.evaluate.refusals import check_greedy
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.verdicts import (
    Answer,
    best_choices,
    check_finite,
    row_kl,
    sample_result,
    summed_log_probabilities,
)
from autoprune.models.loading import LoadedModel
from autoprune.pricing.pricer import Pricer, count_prompts
from autoprune.runtime import Patch, apply, record
from autoprune.schedule import Schedule


def generate_and_score(
    loaded: LoadedModel,
    data: SampleSet,
    schedule: Schedule | None = None,
    batch_size: int = 16,
    *,
    max_new_tokens: int = 32,
) -> list[SampleResult]:
    """Scores a schedule by running the patched model as a user would; the dense model answers beside it.

    Args:
        loaded: The model.
        data: The samples.
        schedule: What is pruned; None = the dense model.
        batch_size: Rows that run together.
        max_new_tokens: Longest answer.

    Returns:
        One result per sample, in the order of the data; all are `decided`.

    Raises:
        EvaluationError: non-finite logits.
        PatchError: the schedule cannot be applied to this model or data.
    """
    check_greedy(loaded.model.generation_config)
    pricer = Pricer(loaded.config, loaded.model.dtype.itemsize)
    results: list[SampleResult] = []
    for indices in plan_batches(loaded.processor, data, range(len(data)), batch_size):
        batch = _Batch(loaded, [data[index] for index in indices], max_new_tokens)
        with apply(loaded.model, schedule) if schedule is not None else nullcontext() as patch:
            answers, kept = batch.answer(patch)
        for place, index in enumerate(indices):
            price = pricer.price(schedule or Schedule(), batch.counts[place], kept[place])
            results.append(sample_result(index, data[index], answers[place], batch.dense[place], price))
    return sorted(results, key=lambda result: result.index)


class _Batch:
    """Samples of one kind with the dense model's answers to them."""

    def __init__(self, loaded: LoadedModel, samples: Sequence[Sample], max_new_tokens: int) -> None:
        self.samples = samples
        self._model, self._processor = loaded.model, loaded.processor
        self._max_new_tokens = max_new_tokens
        self._padding = padding_token(loaded.model, loaded.processor)
        self._chosen = samples[0].choices is not None
        owners = [sample for sample in samples for _ in range(rows(sample))]
        self._inputs = to_device(encode(loaded.processor, owners), loaded.model.device)
        if self._chosen:
            self._tokens = [tokens for sample in samples for tokens in choice_tokens(loaded.processor, sample)]
        else:
            self._tokens = reference_answers(self._model, self._inputs, max_new_tokens, self._padding).tokens
        self._forced = force(self._inputs, self._tokens, self._padding)
        with record(self._model, ()) as recording, recording.prompt(self._forced.ends):
            self._logits = self._forward(self._forced)
        first_rows = [sum(map(rows, samples[:place])) for place in range(len(samples))]
        picks = best_choices(summed_log_probabilities(self._logits, self._forced), samples) if self._chosen else None
        self._rows = [row + pick for row, pick in zip(first_rows, picks, strict=True)] if picks else first_rows
        self.dense = self._answers(self._logits, self._tokens)
        everyone = count_prompts(
            self._forced.inputs["attention_mask"],
            self._forced.ends,
            recording.visual_mask,
            [len(sample.images) for sample in owners],
            [len(tokens) for tokens in self._tokens],
        )
        self.counts = [everyone[row] for row in self._rows]

    def answer(self, patch: Patch | None) -> tuple[list[Answer], list[list[int]]]:
        """Answers under a patch, and for each sample the visual tokens alive after each of its stages."""
        if patch is None:
            return self.dense, [[] for _ in self.samples]
        with patch.prompt(self._forced.ends):
            logits = self._forward(self._forced)
        alive = patch.report.visual_tokens[[stage.layer for stage in patch.schedule.stages]].T.tolist()
        tokens = [] if self._chosen else self._generate()
        return self._answers(logits, tokens), [alive[row] for row in self._rows]

    def _answers(self, logits: Tensor, tokens: list[list[int]]) -> list[Answer]:
        check_finite(logits, self._forced)
        kl = row_kl(self._logits, logits, self._forced.valid)
        if self._chosen:
            picks = best_choices(summed_log_probabilities(logits, self._forced), self.samples)
            dense = best_choices(summed_log_probabilities(self._logits, self._forced), self.samples)
            return [
                Answer((sample.choices or ())[pick], pick, float(pick == best), kl[row], True)
                for sample, pick, best, row in zip(self.samples, picks, dense, self._rows, strict=True)
            ]
        decode = self._processor.tokenizer.decode
        return [
            Answer(decode(said, skip_special_tokens=True).strip(), None, float(said == best), kl[row], True)
            for said, best, row in zip(tokens, self._tokens, self._rows, strict=True)
        ]

    def _generate(self) -> list[list[int]]:
        return generate_greedy(self._model, self._inputs, self._max_new_tokens, self._padding).tokens

    def _forward(self, forced: Forced) -> Tensor:
        positions: Any = self._model._prepare_position_ids_for_generation(forced.inputs["input_ids"], forced.inputs)
        with torch.no_grad():
            logits: Tensor = self._model(
                **forced.inputs, position_ids=positions, use_cache=False, logits_to_keep=forced.width
            ).logits[:, -forced.width :]  # some models give all columns
        return logits
