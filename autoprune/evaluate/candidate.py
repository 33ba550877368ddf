"""One schedule on its way through recorded batches: replay, comparison with the dense answers, decoding on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from autoprune.evaluate.batch import PreparedBatch
from autoprune.evaluate.greedy import OpenRows, end_tokens, finish, is_unfinished
from autoprune.evaluate.prefix import DensePrefix, Replay
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.verdicts import Answer, check_finite, first_mismatch
from autoprune.pricing.cost import Pricer
from autoprune.schedule import Schedule

RecordedBatch = PreparedBatch[DensePrefix]
"""A batch whose dense pass is recorded, so that schedules can be replayed on it."""


@dataclass(frozen=True)
class _Unfinished:
    """Answers to one batch, of which some wait to be decoded on.

    Attributes:
        batch: The batch.
        tokens: Of each answer; of an unfinished one those up to its first mismatch with the dense answer.
        kl: Of each sample.
        decided: For each sample, whether its answer is the dense one.
        kept: For each sample, the visual tokens alive after each stage.
        rows: The unfinished answers.
    """

    batch: RecordedBatch
    tokens: list[list[int]]
    kl: list[float]
    decided: list[bool]
    kept: list[list[int]]
    rows: OpenRows


class CandidateRun:
    """The results of one schedule, batch by batch; unfinished answers wait until decoding them pays.

    Where the arg-max of the replayed logits agrees with the dense model's answer to the end, that is the schedule's
    answer too; else greedy decoding goes on from the first mismatch.

    Args:
        model: The model.
        schedule: The schedule; without stages, the dense answers are its results.
        pricer: Prices the samples.
        max_new_tokens: Longest answer.
        most_rows: Unfinished answers that are enough for a decoding loop.
        most_bytes: Memory that unfinished answers may hold.

    Attributes:
        results: Results so far, by index.
    """

    def __init__(
        self, model: Any, schedule: Schedule, pricer: Pricer, max_new_tokens: int, most_rows: int, most_bytes: int
    ) -> None:
        self.results: dict[int, SampleResult] = {}
        self._model, self._schedule, self._pricer = model, schedule, pricer
        self._limits = max_new_tokens, end_tokens(model)
        self._most_rows, self._most_bytes = most_rows, most_bytes
        self._unfinished: list[_Unfinished] = []

    def add(self, batch: RecordedBatch) -> None:
        """Runs the schedule on a batch.

        Raises:
            EvaluationError: non-finite logits.
            PatchError: a criterion cannot be computed on this batch.
        """
        if not self._schedule.stages:
            self._store(batch, batch.dense, [[] for _ in batch.samples])
            return
        replay = batch.dense_pass.replay(self._schedule)
        check_finite(replay.logits, batch.forced)
        kept = batch.kept(self._schedule, replay.visual_tokens)
        if batch.has_choices:
            self._store(batch, batch.choice_answers(replay.logits), kept)
            return
        mismatches, kl = first_mismatch(replay.logits, batch.forced), batch.kl(replay.logits)
        decided = [mismatch is None for mismatch in mismatches]
        tokens = [
            dense if mismatch is None else [*dense[: mismatch[0]], mismatch[1]]
            for dense, mismatch in zip(batch.continuations, mismatches, strict=True)
        ]
        places = [row for row, same in enumerate(decided) if not same and is_unfinished(tokens[row], *self._limits)]
        if not places:
            self._store(batch, batch.text_answers(tokens, kl, decided), kept)
            return
        rows = _open_rows(batch, replay, places, [tokens[row] for row in places])
        self._unfinished.append(_Unfinished(batch, tokens, kl, decided, kept, rows))
        waiting = [part.rows for part in self._unfinished]
        if (
            sum(len(rows.places) for rows in waiting) >= self._most_rows
            or sum(rows.nbytes for rows in waiting) > self._most_bytes
        ):
            self.finish()

    def finish(self) -> None:
        """Decodes the unfinished answers to their end."""
        waiting, self._unfinished = self._unfinished, []
        if not waiting:
            return
        whole = finish(self._model, self._schedule, [part.rows for part in waiting], *self._limits)
        for part, answers in zip(waiting, whole, strict=True):
            for place, tokens in zip(part.rows.places, answers, strict=True):
                part.tokens[place] = tokens
            self._store(part.batch, part.batch.text_answers(part.tokens, part.kl, part.decided), part.kept)

    def _store(self, batch: RecordedBatch, answers: Sequence[Answer], kept: Sequence[Sequence[int]]) -> None:
        for result in batch.results(self._schedule, answers, kept, self._pricer):
            self.results[result.index] = result


def _open_rows(batch: RecordedBatch, replay: Replay, places: list[int], begun: list[list[int]]) -> OpenRows:
    device = batch.forced.ends.device
    index = torch.tensor(places, device=device)
    cut = batch.forced.ends[index] + torch.tensor([len(tokens) - 1 for tokens in begun], device=device)
    # The rest of the dense answer stays in the cache, but no later token may see it.
    mask = batch.forced.inputs["attention_mask"][index]
    columns = torch.arange(mask.shape[1], device=device)
    return OpenRows(
        places=places,
        begun=begun,
        attention_mask=mask * (columns < cut[:, None]),
        positions=batch.dense_pass.position_ids[..., index, cut - 1][..., None] + 1,
        cache=replay.select(index),
    )
