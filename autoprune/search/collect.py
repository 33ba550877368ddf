"""Collects results outside the search: the dense reference, control arms, held-out rows, and times."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from optuna.trial import FrozenTrial

from autoprune.errors import AutopruneError, EvaluationError
from autoprune.evaluate.objectives import Objective, quality_of
from autoprune.evaluate.results import SampleResult, summarise
from autoprune.schedule import Schedule
from autoprune.search.assembly import controls_of, front_trials, shown_schedules
from autoprune.search.ledger import Ledger
from autoprune.search.loop import LOSSES_ALLOWED
from autoprune.search.study import DENSE, Measurements, Study
from autoprune.search.trials import schedule_of
from autoprune.search.workers.protocol import Event, Executor, OnEvent, Split, Task, TaskResult, Times

_VALIDATION_CHUNK, _ARMS_TOGETHER = 64, 4
_LOSSES = (0.01, 0.02, 0.05, 0.0, 0.1, 0.005, 0.2, math.inf)
"""Losses of quality that somebody may accept; the cheapest point within each is timed."""


@dataclass(frozen=True)
class _Chunk:
    task: Task
    losses: int = 0


class Collector:
    """Fills the ledger with whole results; what it has already is not measured again.

    Args:
        stopping: Asked before a chunk is started; True = no new ones.
    """

    def __init__(
        self, study: Study, executor: Executor, ledger: Ledger, on_event: OnEvent, stopping: Callable[[], bool]
    ) -> None:
        self._study, self._executor, self._ledger = study, executor, ledger
        self._on_event, self._stopping = on_event, stopping

    def dense(self) -> list[SampleResult]:
        """Results of the dense model on all calibration rows.

        Raises:
            EvaluationError: it fails.
            KeyboardInterrupt: Ctrl-C came before they were complete.
        """
        size = self._study.inputs.calibration.size
        failed = self._measure("calibration", [DENSE], chunk=size, together=1)
        dense = Measurements.known(self._study, self._ledger, [DENSE]).results("calibration", DENSE)
        if dense is not None:
            return list(dense)
        if self._stopping():
            raise KeyboardInterrupt
        raise EvaluationError(
            f"the dense model cannot be measured: {failed[DENSE.key]}",
            remedy="check the model and the calibration rows with the unpatched model first",
        )

    def front(self, trials: Sequence[FrozenTrial]) -> None:
        """Control arms on the calibration rows, then everything that the front shows on the held-out rows."""
        shown = shown_schedules(self._study, trials)
        arms = [arm for _, _, arm in controls_of(self._study, trials)]
        failed: dict[str, str] = {}
        if not self._stopping():
            self._on_event(Event("phase", "control arms"))
            failed |= self._measure("calibration", arms, self._study.inputs.calibration.size, _ARMS_TOGETHER)
        if "validation" in self._study.splits and not self._stopping():
            self._on_event(Event("phase", "validation"))
            failed |= self._measure("validation", [*shown, *arms], _VALIDATION_CHUNK, len(shown) + len(arms))
        for reason in dict.fromkeys(failed.values()):
            self._on_event(Event("warning", f"a schedule of the front could not be measured: {reason}"))

    def known(self, trials: Sequence[FrozenTrial], times: Mapping[str, Times] | None = None) -> Measurements:
        """Measurements of the front and its control arms that the ledger has."""
        arms = [arm for _, _, arm in controls_of(self._study, trials)]
        return Measurements.known(self._study, self._ledger, [*shown_schedules(self._study, trials), *arms], times)

    def times(self, trials: Sequence[FrozenTrial]) -> dict[str, Times]:
        """Times of some points by their key, all measured by one worker; none if that fails."""
        if self._stopping():
            return {}
        self._on_event(Event("phase", "latency"))
        points = [schedule_of(trial) for trial in front_trials(self._study.spec, trials)]
        split: Split = "validation" if "validation" in self._study.splits else "calibration"
        measured = Measurements.known(self._study, self._ledger, [DENSE, *points])
        schedules = _worth_timing(points, measured, split, quality_of(self._study.spec.objectives))
        result = self._on_one_worker(Task(0, "latency", tuple(schedules))) if schedules else None
        if result is None:
            return {}
        if result.value is None:
            self._on_event(Event("warning", f"latency was not measured: {result.failure or result.lost}"))
            return {}
        return {s.key: times for s, times in zip(schedules, result.value, strict=True)}

    def _on_one_worker(self, task: Task) -> TaskResult | None:
        """Result of a task, tried again if the worker dies; None if Ctrl-C came first."""
        result = None
        for _ in range(LOSSES_ALLOWED + 1):
            if not self._is_a_worker_free():
                return None
            self._executor.submit(task)
            while not (ended := self._executor.wait(timeout=1.0)):
                pass
            result = ended[0]
            _raise_bug(result)
            if result.lost is None:
                break
        return result

    def _measure(self, split: Split, schedules: Sequence[Schedule], chunk: int, together: int) -> dict[str, str]:
        """Measures every schedule on every row of a data set.

        Args:
            split: Data set.
            schedules: The candidates.
            chunk: Rows of one task.
            together: Schedules of one task.

        Returns:
            Why a schedule has no whole results, by its key.
        """
        key, size = self._study.key(split), self._study.splits[split].size
        known = {s.key: self._ledger.results(key, s).keys() for s in schedules}
        missing = list({s.key: s for s in schedules if len(known[s.key]) < size}.values())
        groups = [tuple(missing[i : i + together]) for i in range(0, len(missing), together)]
        waiting: deque[_Chunk] = deque()
        for group in groups:
            for start in range(0, size, chunk):
                rows = range(start, min(start + chunk, size))
                lacking = tuple(row for row in rows if any(row not in known[s.key] for s in group))
                if lacking:
                    waiting.append(_Chunk(Task(0, "evaluate", group, split, lacking)))
        return self._work_off(waiting)

    def _work_off(self, waiting: deque[_Chunk]) -> dict[str, str]:
        running: dict[int, _Chunk] = {}
        failed: dict[str, str] = {}
        numbers, total, finished = 0, len(waiting), 0
        while waiting or running:
            while waiting and self._executor.free() and not self._stopping():
                numbers += 1
                chunk = waiting.popleft()
                running[numbers] = replace(chunk, task=replace(chunk.task, number=numbers))
                self._executor.submit(running[numbers].task)
            if not running and self._stopping():
                break
            for result in self._executor.wait(timeout=1.0):
                again = self._settle(running.pop(result.task.number), result, failed)
                waiting.extendleft(again)
                total += max(0, len(again) - 1)
                finished += not again
                self._on_event(Event("progress", "measured", finished, total))
        return failed

    def _settle(self, chunk: _Chunk, result: TaskResult, failed: dict[str, str]) -> list[_Chunk]:
        """Writes results down; returns what must be tried again."""
        _raise_bug(result)
        task = chunk.task
        if result.value is not None:
            for schedule, results in zip(task.schedules, result.value, strict=True):
                self._ledger.add(self._study.key(task.split), schedule, results)
            return []
        if result.lost is not None and chunk.losses < LOSSES_ALLOWED:
            return [replace(chunk, losses=chunk.losses + 1)]
        if len(task.schedules) > 1:  # one of them spoils it for all
            return [_Chunk(replace(task, schedules=(schedule,))) for schedule in task.schedules]
        failed[task.schedules[0].key] = result.failure or result.lost or ""
        return []

    def _is_a_worker_free(self) -> bool:
        while not self._executor.free():
            if self._stopping():
                return False
            self._executor.wait(timeout=1.0)
        return True


def _worth_timing(
    points: Sequence[Schedule], measured: Measurements, split: Split, quality: Objective
) -> list[Schedule]:
    """Points over the whole range of losses that somebody may accept, the cheapest for each."""
    figures = {s.key: summarise(results) for s in points if (results := measured.results(split, s))}
    dense = measured.results(split, DENSE)
    if dense is None or not figures:
        return []
    best = quality.of(dense)
    losses = {key: quality.lost(best, getattr(f, quality.figure)) for key, f in figures.items()}
    # Where no point is near dense, the nearest is the one that people look at first.
    nearest = min(losses.values())
    chosen: dict[str, Schedule] = {}
    for bound in (nearest, *_LOSSES):
        within = [s for s in points if s.key in losses and losses[s.key] <= bound + 1e-9]
        if within:
            cheapest = min(within, key=lambda s: figures[s.key].flops_ratio)
            chosen[cheapest.key] = cheapest
    return list(chosen.values())


def _raise_bug(result: TaskResult) -> None:
    if result.bug is not None:
        raise AutopruneError(
            f"measuring the front stopped: {type(result.bug).__name__}: {result.bug}",
            remedy="this is a bug of autoprune or of the model's code; the search itself is kept",
        ) from result.bug
