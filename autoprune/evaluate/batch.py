"""A prepared batch: its dense answers, and the answers of a candidate to the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from autoprune.data.rows import Sample
from autoprune.errors import ModelError
from autoprune.evaluate.batching import rows
from autoprune.evaluate.continuation import OpenRows
from autoprune.evaluate.encoding import choice_tokens, encode, to_device
from autoprune.evaluate.forcing import Forced, force
from autoprune.evaluate.greedy import end_tokens, padding_token, reference_answers
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
