"""One schedule on its way through the batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from autoprune.evaluate.batch import Scored, ScoredBatch
from autoprune.evaluate.greedy import finish
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.verdicts import sample_result
from autoprune.pricing.pricer import Pricer
from autoprune.schedule import Schedule


class Run:
    """Collects the results of a schedule; answers that are not finished wait until decoding them pays.

    Args:
        model: The model.
        schedule: The schedule; without stages, the dense answers are its results.
        pricer: Prices the samples.
        rows: Open rows that are enough for a decoding loop.
        nbytes: Memory that open rows may hold.

    Attributes:
        results: Results so far, by index.
    """

    def __init__(self, model: Any, schedule: Schedule, pricer: Pricer, rows: int, nbytes: int) -> None:
        self.results: dict[int, SampleResult] = {}
        self._model, self._schedule, self._pricer = model, schedule, pricer
        self._rows, self._nbytes = rows, nbytes
        self._open: list[tuple[ScoredBatch, Scored]] = []

    def add(self, batch: ScoredBatch) -> None:
        """Runs the schedule on a batch."""
        if not self._schedule.stages:
            scored = Scored(list(batch.dense), [[] for _ in batch.samples], None)
        else:
            scored = batch.score(self._schedule)
        if scored.open_rows is None:
            self._store(batch, scored)
            return
        self._open.append((batch, scored))
        waiting = [part.open_rows for _, part in self._open if part.open_rows is not None]
        if sum(len(rows.places) for rows in waiting) >= self._rows or sum(r.nbytes for r in waiting) > self._nbytes:
            self.finish()

    def finish(self) -> None:
        """Decodes what is open."""
        waiting = [(batch, scored, rows) for batch, scored in self._open if (rows := scored.open_rows) is not None]
        self._open = []
        if not waiting:
            return
        whole = finish(self._model, self._schedule, [rows for _, _, rows in waiting], waiting[0][0].ends)
        for (batch, scored, rows), answers in zip(waiting, whole, strict=True):
            for place, tokens in zip(rows.places, answers, strict=True):
                scored.answers[place] = replace(scored.answers[place], text=batch.text(tokens))
            self._store(batch, scored)

    def _store(self, batch: ScoredBatch, scored: Scored) -> None:
        for place, sample in enumerate(batch.samples):
            price = self._pricer.price(self._schedule, batch.counts[place], scored.kept[place])
            index = batch.indices[place]
            self.results[index] = sample_result(index, sample, scored.answers[place], batch.dense[place], price)
