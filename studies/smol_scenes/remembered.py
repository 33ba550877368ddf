"""Results of schedules on rows, kept in a database: what it holds is read, and what it lacks is measured."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from autoprune.data.samples import SampleSet
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.metrics import EXACT_MATCH, measuring_version
from autoprune.evaluate.results import SampleResult
from autoprune.models.loading import LoadedModel
from autoprune.schedule import Criterion, Schedule
from autoprune.search.ledger import DataKey, Ledger
from autoprune.search.storage import Database
from autoprune.search.workers.protocol import ignore

_TOGETHER = 12
_PASSES = 5 * 1024**3


class Remembered:
    """An evaluator whose results outlive it, so that a table can be interrupted, and told again at once.

    Args:
        loaded: The model.
        data: The rows.
        database: SQLite file; several processes may write to it.
        criteria: Those that the schedules use.
    """

    def __init__(self, loaded: LoadedModel, data: SampleSet, database: Path, criteria: Sequence[Criterion]) -> None:
        self._loaded, self._data, self._criteria = loaded, data, criteria
        self._ledger = Ledger(Database(f"sqlite:///{database.resolve()}", ignore, 60.0))
        version = f"{measuring_version(EXACT_MATCH)}/held out"
        self._key = DataKey(loaded.fingerprint, data.digest, version, "validation")

    def evaluate_many(self, schedules: Sequence[Schedule]) -> list[list[SampleResult]]:
        """Results of schedules on all rows."""
        lacking = list({schedule.key: schedule for schedule in schedules if not self._known(schedule)}.values())
        for start in range(0, len(lacking), _TOGETHER):
            part = lacking[start : start + _TOGETHER]
            for schedule, results in zip(part, self._evaluator.evaluate_many(part), strict=True):
                self._ledger.add(self._key, schedule, results)
        return [self._known(schedule) for schedule in schedules]

    def _known(self, schedule: Schedule) -> list[SampleResult]:
        return list(self._ledger.results(self._key, schedule).values())

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self._loaded, self._data, criteria=self._criteria, cache_bytes=_PASSES)
