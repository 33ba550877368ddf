"""Measures schedules on rows: tasks for the workers, results for the ledger, and what happens when a task fails."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from autoprune.schedule import Schedule
from autoprune.search.ledger import Ledger
from autoprune.search.loop import LOSSES_ALLOWED, stopping_error
from autoprune.search.study import Study
from autoprune.search.workers.protocol import Event, Executor, OnEvent, Split, Task, TaskResult


@dataclass(frozen=True)
class _Chunk:
    task: Task
    losses: int = 0


class Measurer:
    """Fills the ledger with results of the rows asked for; what it has already is not measured again.

    Args:
        stopping: Asked before a task is started; True = no new ones.
    """

    def __init__(
        self, study: Study, executor: Executor, ledger: Ledger, on_event: OnEvent, stopping: Callable[[], bool]
    ) -> None:
        self._study, self._executor, self._ledger = study, executor, ledger
        self._on_event, self._stopping = on_event, stopping

    def measure(
        self,
        split: Split,
        schedules: Sequence[Schedule],
        rows: Sequence[int],
        chunk: int,
        *,
        behind: int = 0,
        total: int | None = None,
    ) -> dict[str, str]:
        """Measures every schedule on these rows of a data set; one task holds a chunk of rows and all schedules.

        Args:
            split: Data set.
            schedules: The candidates.
            rows: Rows to measure.
            chunk: Rows of one task.
            behind: Rows that were measured before, for the progress shown.
            total: Rows of the whole phase, for the progress shown; default: `behind` and these rows.

        Returns:
            Why a schedule has no whole results, by its key.
        """
        known = {s.key: self._ledger.results(self._study.key(split), s).keys() for s in schedules}
        unique = list({s.key: s for s in schedules}.values())
        waiting: deque[_Chunk] = deque()
        for start in range(0, len(rows), chunk):
            here = rows[start : start + chunk]
            missing = tuple(s for s in unique if any(row not in known[s.key] for row in here))
            lacking = tuple(row for row in here if any(row not in known[s.key] for s in missing))
            if missing:
                waiting.append(_Chunk(Task(0, "evaluate", missing, split, lacking)))
        to_do = sum(len(chunk.task.rows) for chunk in waiting)
        behind += len(rows) - to_do
        return self._work_off(waiting, behind, behind + to_do if total is None else total)

    def on_one_worker(self, task: Task) -> TaskResult | None:
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

    def _work_off(self, waiting: deque[_Chunk], behind: int, total: int) -> dict[str, str]:
        running: dict[int, _Chunk] = {}
        failed: dict[str, str] = {}
        done: set[int] = set()
        numbers = 0
        while waiting or running:
            while waiting and self._executor.free() and not self._stopping():
                chunk = waiting.popleft()
                able = tuple(s for s in chunk.task.schedules if s.key not in failed)
                if not able:
                    continue
                numbers += 1
                running[numbers] = replace(chunk, task=replace(chunk.task, number=numbers, schedules=able))
                self._executor.submit(running[numbers].task)
            if not running and (self._stopping() or not waiting):
                break
            for result in self._executor.wait(timeout=1.0):
                chunk = running.pop(result.task.number)
                again = self._settle(chunk, result, failed)
                waiting.extendleft(again)
                done |= set() if again else set(chunk.task.rows)
                self._on_event(Event("progress", "rows", behind + len(done), total))
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
            middle = len(task.schedules) // 2
            return [
                _Chunk(replace(task, schedules=half)) for half in (task.schedules[:middle], task.schedules[middle:])
            ]
        failed[task.schedules[0].key] = result.failure or result.lost or ""
        return []

    def _is_a_worker_free(self) -> bool:
        while not self._executor.free():
            if self._stopping():
                return False
            self._executor.wait(timeout=1.0)
        return True


def _raise_bug(result: TaskResult) -> None:
    if result.bug is not None:
        raise stopping_error(result.bug, "measuring the front stopped", "the search itself is kept") from result.bug
