"""A batch of samples, prepared once: encoded, answered by the dense model, laid out for teacher forcing, counted.

Both ways of scoring start from it. The evaluator replays schedules on a recorded dense pass; `generate_and_score` runs
the patched model on the same prompts. What they share is the arithmetic from logits and tokens to results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from autoprune.data.rows import Sample
from autoprune.data.samples import SampleSet
from autoprune.evaluate.encoding import Forced, choice_tokens, force
from autoprune.evaluate.greedy import GreedyAnswers, padding_token, reference_answers
from autoprune.evaluate.memory import tensor_bytes
from autoprune.evaluate.metrics import Metric
from autoprune.evaluate.planning import row_count
from autoprune.evaluate.repeats import RepeatedRows, repeated_rows
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.verdicts import (
    Answer,
    best_choices,
    check_finite,
    near_ties,
    row_kl,
    sample_result,
    summed_log_probabilities,
)
from autoprune.evaluate.vision import VisionCounter
from autoprune.models.loading import LoadedModel
from autoprune.pricing.cost import Pricer
from autoprune.pricing.tokens import COUNTED_INPUTS, PromptCounts, count_prompts
from autoprune.schedule import Schedule


class DensePass(Protocol):
    """A forward pass of the dense model over a batch laid out for teacher forcing."""

    @property
    def logits(self) -> Tensor:
        """[B, width, vocabulary], the columns that predict the continuations."""

    @property
    def visual_mask(self) -> Tensor:
        """BoolTensor[B, S], visual tokens of the prompts."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors that it holds."""


PassT = TypeVar("PassT", bound=DensePass)


@dataclass
class BatchTensors(Generic[PassT]):
    """What a batch holds beyond the answers to it: large, and computed again from its samples.

    Attributes:
        inputs: Encoded prompts [B, S], left-padded, with their pixels; empty where they are not needed any more.
        forced: Prompts and continuations, laid out for teacher forcing.
        dense_pass: The dense pass over them.
    """

    inputs: dict[str, Any]
    forced: Forced
    dense_pass: PassT

    @classmethod
    def run(
        cls,
        loaded: LoadedModel,
        rows: RepeatedRows,
        continuations: Sequence[Sequence[int]],
        dense_pass: Callable[[RepeatedRows, Forced], PassT],
    ) -> Self:
        """The dense pass over encoded prompts and their continuations; arguments as of `PreparedBatch.prepare`."""
        forced = force(loaded.model, rows.inputs, continuations, padding_token(loaded.model, loaded.processor))
        return cls(rows.inputs, forced, dense_pass(rows, forced))

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        forced = self.forced
        laid_out = tensor_bytes(self.inputs, forced.inputs, forced.ends, forced.targets, forced.valid)
        return laid_out + self.dense_pass.nbytes


@dataclass
class PreparedBatch(Generic[PassT]):
    """Samples of one kind (all with choices, or none), with the dense model's answers to them.

    A sample takes one row, or one row for each of its choices.

    Attributes:
        indices: Places of the samples in their set.
        samples: The samples.
        reference: The dense model's greedy answers; None with choices.
        continuations: Tokens that follow each prompt: the dense model's answer, or the choice of that row.
        tensors: What is large; None once it was released.
        vision_flops: FLOPs of vision tower and projector for each sample.
        reference_rows: For each sample, the row that holds its dense answer.
        dense: The dense model's answer to each sample.
        counts: Token counts of each sample.
        near_ties: For each sample, whether some token of its dense answer wins by a margin below kernel noise.
        tokenizer: Of the model.
        metric: Judges the answers.
    """

    indices: tuple[int, ...]
    samples: tuple[Sample, ...]
    reference: GreedyAnswers | None
    continuations: list[list[int]]
    tensors: BatchTensors[PassT] | None
    vision_flops: Sequence[int | None]
    tokenizer: Any
    metric: Metric
    reference_rows: list[int] = field(init=False)
    dense: list[Answer] = field(init=False)
    counts: list[PromptCounts] = field(init=False)
    near_ties: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        check_finite(self.dense_pass.logits, self.forced)
        self.reference_rows, self.dense = self._dense_answers()
        self.counts = self._count()
        ties = near_ties(self.dense_pass.logits, self.forced)
        self.near_ties = [ties[row] for row in self.reference_rows]

    @classmethod
    def prepare(
        cls,
        loaded: LoadedModel,
        data: SampleSet,
        indices: Sequence[int],
        max_new_tokens: int,
        dense_pass: Callable[[RepeatedRows, Forced], PassT],
        vision: VisionCounter,
        metric: Metric,
    ) -> Self:
        """Samples encoded, answered by the dense model, and run through it once more with their answers.

        Args:
            loaded: The model.
            data: The set that the samples are taken from.
            indices: Their places in it.
            max_new_tokens: Longest answer.
            dense_pass: Runs the dense model on the batch: its encoded prompts, and them with their continuations.
            vision: Counts what encoding the images costs.
            metric: Judges the answers.

        Raises:
            EvaluationError: non-finite logits.
            ModelError: an answer holds the placeholder of an image.
        """
        samples = tuple(data[index] for index in indices)
        padding = padding_token(loaded.model, loaded.processor)
        rows = repeated_rows(loaded, samples, list(map(row_count, samples)))
        reference: GreedyAnswers | None = None
        if samples[0].choices is not None:
            continuations = [tokens for s in samples for tokens in choice_tokens(loaded.processor, s)]
        else:
            reference = reference_answers(loaded.model, rows.inputs, max_new_tokens, padding)
            continuations = reference.tokens
        return cls(
            tuple(indices),
            samples,
            reference,
            continuations,
            BatchTensors.run(loaded, rows, continuations, dense_pass),
            [vision.of(sample) for sample in samples],
            loaded.processor.tokenizer,
            metric,
        )

    def release(self) -> None:
        """Drops all tensors; what is known of the samples and their dense answers stays."""
        self.tensors = None

    def restore(
        self,
        loaded: LoadedModel,
        dense_pass: Callable[[RepeatedRows, Forced], PassT],
    ) -> None:
        """Computes the tensors again, where they were released; arguments as of `prepare`."""
        if self.tensors is None:
            rows = repeated_rows(loaded, self.samples, list(map(row_count, self.samples)))
            self.tensors = BatchTensors.run(loaded, rows, self.continuations, dense_pass)

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return 0 if self.tensors is None else self.tensors.nbytes

    @property
    def inputs(self) -> dict[str, Any]:
        """The encoded prompts [B, S], left-padded; empty where no pass starts from pixels any more."""
        return self._at_hand.inputs

    @property
    def forced(self) -> Forced:
        """Prompts and continuations, laid out for teacher forcing."""
        return self._at_hand.forced

    @property
    def dense_pass(self) -> PassT:
        """The dense pass over them."""
        return self._at_hand.dense_pass

    @property
    def _at_hand(self) -> BatchTensors[PassT]:
        if self.tensors is None:
            raise RuntimeError("the batch was released and is not restored")
        return self.tensors

    @property
    def has_choices(self) -> bool:
        """Whether the samples are scored by the log-probability of their choices."""
        return self.samples[0].choices is not None

    def kl(self, logits: Tensor) -> list[float]:
        """KL(dense ‖ pruned) of each sample in nats, mean over the tokens of its dense answer.

        Args:
            logits: [B, width, vocabulary] of the pruned model.
        """
        kl = row_kl(self.dense_pass.logits, logits, self.forced.valid)
        return [kl[row] for row in self.reference_rows]

    def kept(self, schedule: Schedule, counts: Mapping[int, Sequence[int]]) -> list[list[int]]:
        """For each sample, the visual tokens alive after each stage.

        Args:
            schedule: The schedule that ran on the batch.
            counts: {layer of a stage: visual tokens of each row alive after it}; a stage that is missing drops nothing.
        """
        kept: list[list[int]] = [[] for _ in self.samples]
        now = [counted.visual for counted in self.counts]
        for stage in schedule.stages:
            if stage.layer in counts:
                now = [counts[stage.layer][row] for row in self.reference_rows]
            for own, alive in zip(kept, now, strict=True):
                own.append(alive)
        return kept

    def choice_answers(self, logits: Tensor) -> list[Answer]:
        """The most probable choice of each sample.

        Args:
            logits: [B, width, vocabulary] of the pruned model.
        """
        picks = best_choices(summed_log_probabilities(logits, self.forced), self.samples)
        given = zip(self.samples, picks, self.dense, self.kl(logits), strict=True)
        return [_choice(sample, pick, dense.choice, kl) for sample, pick, dense, kl in given]

    def text_answers(
        self, tokens: Sequence[Sequence[int]], kl: Sequence[float], decided: Sequence[bool]
    ) -> list[Answer]:
        """Greedy answers of the pruned model.

        Args:
            tokens: Of each answer, the end token included.
            kl: Of each sample, see `kl`.
            decided: For each sample, whether teacher forcing alone settled its answer.
        """
        same = [list(own) == dense for own, dense in zip(tokens, self.continuations, strict=True)]
        given = zip(tokens, same, self.dense, kl, decided, strict=True)
        return [
            Answer(dense.text if agrees else self._text(own), None, float(agrees), nats, settled)
            for own, agrees, dense, nats, settled in given
        ]

    def results(
        self, schedule: Schedule, answers: Sequence[Answer], kept: Sequence[Sequence[int]], pricer: Pricer
    ) -> list[SampleResult]:
        """The result of each sample under a schedule: verdict and price.

        Args:
            schedule: The schedule; without stages for the dense model.
            answers: One for each sample.
            kept: For each sample, the visual tokens alive after each stage.
            pricer: Prices the samples.
        """
        prices = [pricer.price(schedule, *counted) for counted in zip(self.counts, kept, strict=True)]
        given = zip(self.indices, self.samples, answers, self.dense, prices, strict=True)
        return [sample_result(*parts, self.metric) for parts in given]

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    @property
    def first_rows(self) -> list[int]:
        """First row of each sample, and behind them the number of rows."""
        return list(accumulate(map(row_count, self.samples), initial=0))

    def _dense_answers(self) -> tuple[list[int], list[Answer]]:
        """For each sample the row of the dense model's answer, and the answer."""
        first_rows = self.first_rows[:-1]
        if not self.has_choices:
            return first_rows, [Answer(self._text(tokens), None, 1.0, 0.0, True) for tokens in self.continuations]
        picks = best_choices(summed_log_probabilities(self.dense_pass.logits, self.forced), self.samples)
        answers = [_choice(sample, pick, pick, 0.0) for sample, pick in zip(self.samples, picks, strict=True)]
        return [row + pick for row, pick in zip(first_rows, picks, strict=True)], answers

    def _count(self) -> list[PromptCounts]:
        index = torch.tensor(self.reference_rows, device=self.forced.ends.device)
        return count_prompts(
            {name: value[index] for name, value in self.forced.inputs.items() if name in COUNTED_INPUTS},
            self.forced.ends[index],
            self.dense_pass.visual_mask[index],
            [len(self.continuations[row]) for row in self.reference_rows],
            self.vision_flops,
        )


def _choice(sample: Sample, pick: int, dense: int | None, kl: float) -> Answer:
    return Answer((sample.choices or ())[pick], pick, float(pick == dense), kl, True)
