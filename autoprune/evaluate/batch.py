"""A prepared batch: its dense answers, and the answers of a candidate to the same samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from autoprune.data.rows import Sample
from autoprune.data.samples import SampleSet
from autoprune.errors import ModelError
from autoprune.evaluate.encoding import Forced, choice_tokens, encode, force, render, to_device
from autoprune.evaluate.greedy import OpenRows, end_tokens, padding_token, reference_answers
from autoprune.evaluate.prefix import DensePrefix, Replay
from autoprune.evaluate.verdicts import (
    Answer,
    best_choices,
    check_finite,
    first_mismatch,
    near_ties,
    row_kl,
    summed_log_probabilities,
)
from autoprune.evaluate.vision import shared_features
from autoprune.models.loading import LoadedModel
from autoprune.pricing.pricer import PromptCounts, count_prompts
from autoprune.runtime.plan import ScoreKey
from autoprune.schedule import EncoderCriterion, Schedule


@dataclass
class Scored:
    """A candidate's answers to the samples of a batch.

    Attributes:
        answers: The answers; an open one holds the text up to where it parts from the dense model's.
        kept: For each sample, the visual tokens alive after each stage.
        open_rows: What is needed to finish the open ones, or None.
    """

    answers: list[Answer]
    kept: list[list[int]]
    open_rows: OpenRows | None


class ScoredBatch:
    """Samples of one kind (all with choices, or none), with the dense model's answers to them.

    Attributes:
        indices: Places of the samples in their set.
        samples: The samples.
        prefix: The recorded dense pass.
        dense: The dense model's answer to each sample.
        counts: Token counts of each sample.
        ends: Tokens that end an answer.
        near_ties: For each sample, whether its dense answer hangs on a margin below kernel noise.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        indices: Sequence[int],
        samples: Sequence[Sample],
        keys: Sequence[ScoreKey],
        max_new_tokens: int,
    ) -> None:
        self.indices, self.samples = tuple(indices), tuple(samples)
        self._model, self._tokenizer = loaded.model, loaded.processor.tokenizer
        self.ends = end_tokens(self._model)
        self._max_new_tokens = max_new_tokens
        self._chosen = samples[0].choices is not None
        owners = [sample for sample in samples for _ in range(rows(sample))]
        inputs = to_device(encode(loaded.processor, owners), self._model.device)
        padding = padding_token(self._model, loaded.processor)
        # Scores of the vision tower are read while it runs, so then the recorded pass encodes the images once more.
        watched = any(isinstance(criterion, EncoderCriterion) for _, criterion in keys)
        with nullcontext() if watched else shared_features(self._model):
            if self._chosen:
                continuations = [tokens for sample in samples for tokens in choice_tokens(loaded.processor, sample)]
            else:
                reference = reference_answers(self._model, inputs, max_new_tokens, padding)
                continuations = reference.tokens
            self.prefix = DensePrefix(self._model, force(inputs, continuations, padding), keys)
        self._continuations = continuations
        check_finite(self.prefix.logits, self._forced)
        self._reference_rows = self._first_rows()
        if self._chosen:
            picks = best_choices(summed_log_probabilities(self.prefix.logits, self._forced), samples)
            self._reference_rows = [row + pick for row, pick in zip(self._reference_rows, picks, strict=True)]
            self.dense = [_chosen(sample, pick, pick, 0.0) for sample, pick in zip(samples, picks, strict=True)]
        else:
            self._check_forcing(reference.log_probabilities)
            self.dense = [Answer(self.text(tokens), None, 1.0, 0.0, True) for tokens in continuations]
        ties = near_ties(self.prefix.logits, self._forced)
        self.near_ties = [ties[row] for row in self._reference_rows]
        self.counts = self._count()

    @property
    def _forced(self) -> Forced:
        return self.prefix.forced

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True)).strip()

    def score(self, schedule: Schedule) -> Scored:
        """A candidate's answers; those that part from the dense model's are left open.

        Raises:
            EvaluationError: non-finite logits.
            PatchError: a criterion cannot be computed on this batch.
        """
        replay = self.prefix.replay(schedule)
        check_finite(replay.logits, self._forced)
        kl = row_kl(self.prefix.logits, replay.logits, self._forced.valid)
        kl = [kl[row] for row in self._reference_rows]
        alive = replay.visual_tokens[[stage.layer for stage in schedule.stages]].T.tolist()
        kept = [alive[row] for row in self._reference_rows]
        if not self._chosen:
            return self._decide(replay, kl, kept)
        picks = best_choices(summed_log_probabilities(replay.logits, self._forced), self.samples)
        answers = [
            _chosen(sample, pick, dense.choice, nats)
            for sample, pick, dense, nats in zip(self.samples, picks, self.dense, kl, strict=True)
        ]
        return Scored(answers, kept, None)

    def _decide(self, replay: Replay, kl: list[float], kept: list[list[int]]) -> Scored:
        answers: list[Answer] = []
        places, heads, tokens = [], [], []
        for row, parted in enumerate(first_mismatch(replay.logits, self._forced)):
            if parted is None:
                answers.append(replace(self.dense[row], kl=kl[row]))
                continue
            place, token = parted
            head = self._continuations[row][:place]
            answers.append(Answer(self.text([*head, token]), None, 0.0, kl[row], False))
            if token not in self.ends and place + 1 < self._max_new_tokens:
                places.append(row)
                heads.append(head)
                tokens.append(token)
        open_rows = self._open(replay, places, heads, tokens) if places else None
        return Scored(answers, kept, open_rows)

    def _open(self, replay: Replay, rows: list[int], heads: list[list[int]], tokens: list[int]) -> OpenRows:
        device = self._forced.ends.device
        index = torch.tensor(rows, device=device)
        cut = self._forced.ends[index] + torch.tensor([len(head) for head in heads], device=device)
        # The rest of the reference answer stays in the cache, but no later token may see it.
        mask = self._forced.inputs["attention_mask"][index]
        columns = torch.arange(mask.shape[1], device=device)
        return OpenRows(
            places=rows,
            heads=heads,
            tokens=tokens,
            budgets=[self._max_new_tokens - len(head) for head in heads],
            attention_mask=mask * (columns < cut[:, None]),
            positions=self.prefix.position_ids[..., index, cut - 1][..., None] + 1,
            cache=replay.select(index),
        )

    def _first_rows(self) -> list[int]:
        starts, row = [], 0
        for sample in self.samples:
            starts.append(row)
            row += rows(sample)
        return starts

    def _count(self) -> list[PromptCounts]:
        index = torch.tensor(self._reference_rows, device=self._forced.ends.device)
        return count_prompts(
            self._forced.inputs["attention_mask"][index],
            self._forced.ends[index],
            self.prefix.visual_mask[index],
            [len(sample.images) for sample in self.samples],
            [len(self._continuations[row]) for row in self._reference_rows],
        )

    def _check_forcing(self, generated: list[list[float]]) -> None:
        """Refuses a model in which a prompt is read differently when an answer follows it.

        Raises:
            ModelError: one pass over prompt and answer does not give the probabilities that `generate` saw.
        """
        best = self.prefix.logits.float().log_softmax(-1).amax(-1)[self._forced.valid].cpu()
        seen = torch.tensor([value for row in generated for value in row])
        difference = (best - seen).abs()
        exact = self.prefix.logits.dtype == torch.float32
        if (exact and float(difference.max()) > 1e-2) or float(difference.mean()) > 0.1:
            raise ModelError(
                f"one pass over prompt and answer differs from generate() by {float(difference.max()):.2g} nats, so "
                "answers cannot be checked by teacher forcing",
                field="model",
                value=type(self._model).__name__,
                remedy="score schedules on it with generate_and_score",
            )


def _chosen(sample: Sample, pick: int, best: int | None, kl: float) -> Answer:
    return Answer((sample.choices or ())[pick], pick, float(pick == best), kl, True)


def plan_batches(processor: Any, data: SampleSet, order: Sequence[int], batch_size: int) -> list[tuple[int, ...]]:
    """Cuts `order` into batches.

    The first `batch_size`, 2·`batch_size`, 4·`batch_size` … samples of `order` are whole batches, so that a race which
    doubles its samples never pays for one that it did not ask for. Within such a step, samples of similar length share
    a batch. Samples with choices, which take one row per choice, are kept apart.

    Returns:
        Tuples of indices into `data`.
    """
    lengths = prompt_lengths(processor, [data[index] for index in order])
    length = dict(zip(order, lengths, strict=True))
    batches: list[tuple[int, ...]] = []
    for step in _doubling(order, batch_size):
        for has_choices in (False, True):
            alike = [index for index in step if (data[index].choices is not None) == has_choices]
            alike.sort(key=lambda index: length[index])  # stable: equal lengths stay in the order asked for
            batches.extend(_fill(alike, [rows(data[index]) for index in alike], batch_size))
    return batches


def rows(sample: Sample) -> int:
    """Rows of a batch that a sample takes."""
    return len(sample.choices) if sample.choices is not None else 1


def prompt_lengths(processor: Any, samples: Sequence[Sample]) -> list[int]:
    """Tokens of each prompt, placeholders expanded.

    How many placeholders an image expands to depends on its size alone, so one sample per combination of sizes is
    encoded and its pixels are not prepared again for the others.
    """
    visual: dict[tuple[tuple[int, int], ...], int] = {}
    lengths = []
    for sample in samples:
        text = len(processor.tokenizer(render(processor, sample))["input_ids"])
        sizes = tuple(image.size for image in sample.images)
        if sizes not in visual:
            visual[sizes] = int(encode(processor, [sample])["input_ids"].shape[1]) - text
        lengths.append(text + visual[sizes])
    return lengths


def _doubling(order: Sequence[int], first: int) -> Iterator[Sequence[int]]:
    start, end = 0, first
    while start < len(order):
        yield order[start:end]
        start, end = end, 2 * end


def _fill(indices: list[int], sizes: list[int], batch_size: int) -> Iterator[tuple[int, ...]]:
    batch: list[int] = []
    used = 0
    for index, size in zip(indices, sizes, strict=True):
        if batch and used + size > batch_size:
            yield tuple(batch)
            batch, used = [], 0
        batch.append(index)
        used += size
    if batch:
        yield tuple(batch)
