"""Measures many schedules on many samples over all workers: controls and the validation of the front."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from autoprune.errors import AutopruneError
from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search.ledger import DataKey, Ledger
from autoprune.search.loop import LOSSES_ALLOWED
from autoprune.search.workers.protocol import Event, Executor, OnEvent, Split, Task, TaskResult


@dataclass
class _Chunk:
    task: Task
    losses: int = 0


class Collector:
    """Fills the ledger with whole results; what it has already is not measured again.

    Args:
        stopping: Asked before a chunk is started; True = no new ones.
    """

    def __init__(self, executor: Executor, ledger: Ledger, on_event: OnEvent, stopping: Callable[[], bool]) -> None:
        self._executor, self._ledger, self._on_event, self._stopping = executor, ledger, on_event, stopping

    def measure(
        self, key: DataKey, split: Split, schedules: Sequence[Schedule], samples: int, chunk: int, together: int
    ) -> dict[str, str]:
        """Measures every schedule on every sample.

        Args:
            key: Address of the results.
            split: Data set.
            schedules: The candidates.
            samples: Size of the data set.
            chunk: Samples of one task.
            together: Schedules of one task.

        Returns:
            Why a schedule has no whole results, by its key.
        """
        known = {s.key: len(self._ledger.results(key, s)) for s in schedules}
        missing = list({s.key: s for s in schedules if known[s.key] < samples}.values())
        groups = [tuple(missing[i : i + together]) for i in range(0, len(missing), together)]
        tasks: deque[_Chunk] = deque()
        for group in groups:
            first = min((known[s.key] for s in group), default=0) // chunk * chunk
            for start in range(first, samples, chunk):
                stop = min(start + chunk, samples)
                tasks.append(_Chunk(Task(0, "evaluate", group, split, start, stop)))
        return self._work_off(key, tasks)

    def latencies(self, schedules: Sequence[Schedule]) -> dict[str, dict[str, float | int | None]]:
        """Times of the schedules by their key, all measured by one worker; none if that fails."""
        if not schedules or not self._executor_ready():
            return {}
        task = Task(0, "latency", tuple(schedules))
        for _ in range(LOSSES_ALLOWED + 1):
            self._executor.submit(task)
            done = self._one()
            self._raise_bug(done)
            if done.lost is None:
                break
            if not self._executor_ready():
                return {}
        if done.value is None:
            self._on_event(Event("warning", f"latency was not measured: {done.failure or done.lost}"))
            return {}
        return {s.key: times for s, times in zip(schedules, done.value, strict=True)}

    def _work_off(self, key: DataKey, waiting: deque[_Chunk]) -> dict[str, str]:
        running: dict[int, _Chunk] = {}
        failed: dict[str, str] = {}
        numbers, total, finished = 0, len(waiting), 0
        while waiting or running:
            while waiting and self._executor.free() and not self._stopping():
                numbers += 1
                chunk = waiting.popleft()
                chunk.task = replace(chunk.task, number=numbers)
                running[numbers] = chunk
                self._executor.submit(chunk.task)
            if not running and self._stopping():
                break
            for done in self._executor.wait(timeout=1.0):
                chunk = running.pop(done.task.number)
                again = self._settle(key, chunk, done, failed)
                waiting.extendleft(again)
                total += max(0, len(again) - 1)
                finished += not again
                self._on_event(Event("progress", "measured", finished, total))
        return failed

    def _settle(self, key: DataKey, chunk: _Chunk, done: TaskResult, failed: dict[str, str]) -> list[_Chunk]:
        """Writes results down; returns what must be tried again."""
        self._raise_bug(done)
        task = chunk.task
        if done.value is not None:
            for schedule, results in zip(task.schedules, done.value, strict=True):
                self._ledger.add(key, schedule, task.start, results)
            return []
        if done.lost is not None:
            chunk.losses += 1
            if chunk.losses <= LOSSES_ALLOWED:
                return [chunk]
        if len(task.schedules) > 1:  # one of them spoils it for all
            return [_Chunk(replace(task, schedules=(schedule,))) for schedule in task.schedules]
        failed[task.schedules[0].key] = done.failure or done.lost or ""
        return []

    def _executor_ready(self) -> bool:
        while not self._executor.free():
            if self._stopping():
                return False
            self._executor.wait(timeout=1.0)
        return True

    def _one(self) -> TaskResult:
        while True:
            for done in self._executor.wait(timeout=1.0):
                return done

    def _raise_bug(self, done: TaskResult) -> None:
        if done.bug is not None:
            raise AutopruneError(
                f"measuring the front stopped: {type(done.bug).__name__}: {done.bug}",
                remedy="this is a bug of autoprune or of the model's code; the search itself is kept",
            ) from done.bug


def whole(results: Sequence[SampleResult], samples: int) -> list[SampleResult] | None:
    """The results if none is missing."""
    return list(results) if len(results) == samples else None
