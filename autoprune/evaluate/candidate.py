"""One schedule on its way through recorded batches: comparison with the dense answers, decoding on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autoprune.evaluate.batch import BatchTensors, PreparedBatch
from autoprune.evaluate.greedy import OpenRows, end_tokens, finish, is_unfinished
from autoprune.evaluate.prefix import DensePrefix, Replay
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.verdicts import Answer, check_finite, first_mismatch
from autoprune.pricing.cost import Pricer
from autoprune.runtime.realign import cut_mask
from autoprune.schedule import Schedule

AnyBatch = PreparedBatch[Any]
RecordedBatch = PreparedBatch[DensePrefix]
"""A batch whose dense pass is recorded, so that schedules can be replayed on it."""


def drop_pixels(batch: RecordedBatch) -> None:
    """Lets go of the pixels: replays start from the embeddings."""
    dense = batch.dense_pass
    dense.forced = dense.forced.without_pixels()
    batch.tensors = BatchTensors({}, dense.forced, dense)


class CandidateRun:
    """The results of one schedule, batch by batch.

    Where the arg-max of the replayed logits agrees with the dense model's answer to the end, that is the schedule's
    answer too; else greedy decoding goes on from the first mismatch.

    Args:
        schedule: The schedule.
        pricer: Prices the samples.
        decoding: Takes the answers that are to be decoded on.

    Attributes:
        results: Results so far, by index.
    """

    def __init__(self, schedule: Schedule, pricer: Pricer, decoding: Decoding) -> None:
        self.results: dict[int, SampleResult] = {}
        self._schedule, self._pricer, self._decoding = schedule, pricer, decoding

    def add_dense(self, batch: AnyBatch) -> None:
        """Takes the dense model's answers to a batch, for a schedule that drops nothing."""
        self.store(batch, batch.dense, batch.kept(self._schedule, {}))

    def add(self, batch: RecordedBatch, replay: Replay) -> None:
        """Takes what the schedule gives on a batch.

        Raises:
            EvaluationError: non-finite logits.
        """
        check_finite(replay.logits, batch.forced)
        kept = batch.kept(self._schedule, replay.counts)
        if batch.has_choices:
            self.store(batch, batch.choice_answers(replay.logits), kept)
            return
        mismatches, kl = first_mismatch(replay.logits, batch.forced), batch.kl(replay.logits)
        decided = [mismatch is None for mismatch in mismatches]
        tokens = [
            dense if mismatch is None else [*dense[: mismatch[0]], mismatch[1]]
            for dense, mismatch in zip(batch.continuations, mismatches, strict=True)
        ]
        places = [row for row, same in enumerate(decided) if not same and self._decoding.is_open(tokens[row])]
        if not places:
            self.store(batch, batch.text_answers(tokens, kl, decided), kept)
            return
        rows = _open_rows(batch, replay, places, [tokens[row] for row in places])
        self._decoding.add(_Unfinished(self, batch, tokens, kl, decided, kept, rows))

    def store(self, batch: AnyBatch, answers: Sequence[Answer], kept: Sequence[Sequence[int]]) -> None:
        """Takes the answers to a batch as results."""
        for result in batch.results(self._schedule, answers, kept, self._pricer):
            self.results[result.index] = result


@dataclass(frozen=True)
class _Unfinished:
    """Answers of one schedule to one batch, of which some wait to be decoded on.

    Attributes:
        run: Of the schedule.
        batch: The batch.
        tokens: Of each answer; of an unfinished one those up to its first mismatch with the dense answer.
        kl: Of each sample.
        decided: For each sample, whether its answer is the dense one.
        kept: For each sample, the visual tokens alive after each stage.
        rows: The unfinished answers.
    """

    run: CandidateRun
    batch: RecordedBatch
    tokens: list[list[int]]
    kl: list[float]
    decided: list[bool]
    kept: list[list[int]]
    rows: OpenRows


class Decoding:
    """Unfinished answers of any schedules and batches, which wait until decoding them together pays.

    Args:
        model: The model.
        max_new_tokens: Longest answer.
        most_rows: Answers that are enough for a decoding loop.
        most_bytes: Memory that they may hold.
    """

    def __init__(self, model: Any, max_new_tokens: int, most_rows: int, most_bytes: int) -> None:
        self._model = model
        self._limits = max_new_tokens, end_tokens(model)
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._waiting: list[_Unfinished] = []
        self._rows = self._bytes = 0

    def is_open(self, answer: Sequence[int]) -> bool:
        """Whether greedy decoding goes on behind an answer of at least one token."""
        return is_unfinished(answer, *self._limits)

    @property
    def is_due(self) -> bool:
        """Whether enough answers wait."""
        return self._rows >= self._most_rows or self._bytes > self._most_bytes

    def add(self, part: _Unfinished) -> None:
        """Takes answers that wait."""
        self._waiting.append(part)
        self._rows += len(part.rows.places)
        self._bytes += part.rows.nbytes

    def finish(self) -> None:
        """Decodes the answers that wait to their end; the model carries no patch."""
        waiting, self._waiting, self._rows, self._bytes = self._waiting, [], 0, 0
        if not waiting:
            return
        whole = finish(self._model, [part.rows for part in waiting], *self._limits)
        for part, answers in zip(waiting, whole, strict=True):
            for place, tokens in zip(part.rows.places, answers, strict=True):
                part.tokens[place] = tokens
            part.run.store(part.batch, part.batch.text_answers(part.tokens, part.kl, part.decided), part.kept)


def _open_rows(batch: RecordedBatch, replay: Replay, places: list[int], begun: list[list[int]]) -> OpenRows:
    device = batch.forced.ends.device
    index = torch.tensor(places, device=device)
    cut = batch.forced.ends[index] + torch.tensor([len(tokens) - 1 for tokens in begun], device=device)
    length = int(cut.max())
    return OpenRows(
        places=places,
        begun=begun,
        attention_mask=cut_mask(batch.forced.inputs["attention_mask"][index], cut, length),
        positions=batch.dense_pass.position_ids[..., index, cut - 1][..., None] + 1,
        cache=replay.cut(batch.dense_pass.model.config, index, cut, length),
    )
