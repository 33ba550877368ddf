"""Scores by plain use of the model: answers by ``generate()`` under the patch, probabilities by a patched forward pass.

Where one forward pass does not give what ``generate()`` sees, the probabilities come from inside it too, step by step.
It shares no replay and no cache with the evaluator, whose results are checked against it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor

from autoprune.data.samples import SampleSet
from autoprune.evaluate.batch import PassT, PreparedBatch
from autoprune.evaluate.encoding import Forced
from autoprune.evaluate.forcing import plain_logits, unlike_generated, why_unforced
from autoprune.evaluate.greedy import generate_greedy, padding_token
from autoprune.evaluate.memory import tensor_bytes
from autoprune.evaluate.metrics import EXACT_MATCH, Metric
from autoprune.evaluate.planning import plan_batches
from autoprune.evaluate.repeats import RepeatedRows
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.stepwise import stepped_answers, stepped_pass
from autoprune.evaluate.verdicts import Answer, check_finite
from autoprune.evaluate.vision import VisionCounter
from autoprune.models.generation import check_greedy
from autoprune.models.loading import LoadedModel
from autoprune.pricing.cost import Pricer
from autoprune.runtime import apply, record
from autoprune.schedule import Schedule

Answered = tuple[list[Answer], list[list[int]]]
"""An answer to each sample, and the visual tokens alive after each stage."""


def generate_and_score(
    loaded: LoadedModel,
    data: SampleSet,
    schedule: Schedule | None = None,
    batch_size: int = 16,
    *,
    max_new_tokens: int = 32,
    metric: Metric = EXACT_MATCH,
) -> list[SampleResult]:
    """Scores a schedule by running the patched model as a user would; the dense model answers beside it.

    Args:
        loaded: The model.
        data: The samples.
        schedule: What is pruned; None = the dense model.
        batch_size: Rows that run together.
        max_new_tokens: Longest answer.
        metric: Judges the answers.

    Returns:
        One result per sample, in the order of the data; all are `decided`.

    Raises:
        EvaluationError: non-finite logits.
        PatchError: the schedule cannot be applied to this model or data.
    """
    check_greedy(loaded.model.generation_config)
    planned = plan_batches(loaded.processor, data, range(len(data)), batch_size)
    scoring = _Scoring(loaded, data, schedule, planned, max_new_tokens, metric)
    results = scoring.by_one_pass() if why_unforced(loaded, data) is None else None
    return sorted(scoring.step_by_step() if results is None else results, key=lambda result: result.index)


@dataclass
class _Scoring:
    """One schedule, or the dense model, on batches of a data set; arguments as of `generate_and_score`."""

    loaded: LoadedModel
    data: SampleSet
    schedule: Schedule | None
    planned: Sequence[tuple[int, ...]]
    max_new_tokens: int
    metric: Metric

    def __post_init__(self) -> None:
        self._pricer = Pricer(self.loaded.config, self.loaded.model.dtype.itemsize)
        self._vision = VisionCounter(self.loaded)

    def by_one_pass(self) -> list[SampleResult] | None:
        """Probabilities by passes over prompts and answers; None if one gives what ``generate()`` did not see."""
        results: list[SampleResult] = []
        for indices in self.planned:
            batch = self._batch(indices, partial(_dense_pass, self.loaded.model))
            if unlike_generated(batch) is not None:
                return None
            results += self._results(batch, _patched_answers)
        return results

    def step_by_step(self) -> list[SampleResult]:
        """Probabilities by forcing the answers upon ``generate()``."""
        results: list[SampleResult] = []
        for indices in self.planned:
            results += self._results(self._batch(indices, partial(stepped_pass, self.loaded)), stepped_answers)
        return results

    def _batch(self, indices: tuple[int, ...], dense_pass: Callable[..., PassT]) -> PreparedBatch[PassT]:
        return PreparedBatch.prepare(
            self.loaded, self.data, indices, self.max_new_tokens, dense_pass, self._vision, self.metric
        )

    def _results(self, batch: PreparedBatch[PassT], answered: Callable[..., Answered]) -> list[SampleResult]:
        if self.schedule is None:
            return batch.results(Schedule(), batch.dense, [[] for _ in batch.indices], self._pricer)
        answers, kept = answered(self.loaded, batch, self.schedule, self.max_new_tokens)
        settled = [replace(answer, decided=True) for answer in answers]
        return batch.results(self.schedule, settled, kept, self._pricer)


@dataclass(frozen=True)
class _PlainPass:
    """A dense forward pass of which nothing is kept but its logits and where its visual tokens are."""

    logits: Tensor
    visual_mask: Tensor

    @property
    def nbytes(self) -> int:
        """Bytes of logits and mask."""
        return tensor_bytes(self.logits, self.visual_mask)


def _dense_pass(model: Any, rows: RepeatedRows, forced: Forced) -> _PlainPass:
    with record(model, ()) as recording, recording.prompt(forced.ends):
        logits = plain_logits(model, forced)
    return _PlainPass(logits, recording.visual_mask)


def _patched_answers(
    loaded: LoadedModel, batch: PreparedBatch[_PlainPass], schedule: Schedule, max_new_tokens: int
) -> Answered:
    """Answers of the patched model, and for each sample the visual tokens alive after each stage."""
    with apply(loaded.model, schedule) as patch:
        with patch.prompt(batch.forced.ends):
            logits = plain_logits(loaded.model, batch.forced)
        check_finite(logits, batch.forced)
        alive = patch.report.visual_tokens.tolist()
        kept = batch.kept(schedule, {stage.layer: alive[stage.layer] for stage in schedule.stages})
        if batch.has_choices:
            return batch.choice_answers(logits), kept
        padding = padding_token(loaded.model, loaded.processor)
        tokens = generate_greedy(loaded.model, batch.inputs, max_new_tokens, padding).tokens
    return batch.text_answers(tokens, batch.kl(logits), [True] * len(tokens)), kept
