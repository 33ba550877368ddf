"""Tasks of the final measurements: what they hold, and what becomes of those that fail or lose their worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import fake_backend
from support.studies import BACKEND, tiny_spec

from autoprune import presets
from autoprune.search.ledger import Ledger
from autoprune.search.measuring import Measurer
from autoprune.search.storage import Database
from autoprune.search.study import Study
from autoprune.search.workers.local import LocalExecutor, run_task
from autoprune.search.workers.protocol import Task, TaskResult, ignore

SCHEDULES = [presets.vtw(layer) for layer in range(1, 8)]
ROWS = list(range(40))


class RecordingExecutor(LocalExecutor):
    """Runs tasks in this process, and loses the worker of the first few."""

    def __init__(self, spec: Any, lost: int = 0) -> None:
        super().__init__(spec, BACKEND)
        self.tasks: list[Task] = []
        self._lost = lost

    def wait(self, timeout: float) -> list[TaskResult]:
        queued, self._queued = self._queued, []
        self.tasks += queued
        return [self._one(task) for task in queued]

    def _one(self, task: Task) -> TaskResult:
        if self._lost:
            self._lost -= 1
            return TaskResult(task, lost="killed")
        return run_task(fake_backend.FakeEngine(Path(self._spec.output).parent), task, "here")


def measurer(folder: Path, lost: int = 0, stop_after: int = 1000) -> tuple[Measurer, RecordingExecutor, Any]:
    spec = tiny_spec(folder)
    executor = RecordingExecutor(spec, lost)
    study = Study(spec, fake_backend.read_inputs(spec), executor.start())
    ledger = Ledger(Database(f"sqlite:///{folder}/study.db", ignore, 60))

    def stopping() -> bool:
        return len(executor.tasks) >= stop_after

    def known(schedule: Any) -> set[int]:
        return set(ledger.results(study.key("validation"), schedule))

    return Measurer(study, executor, ledger, ignore, stopping), executor, known


def test_a_task_holds_a_chunk_of_rows_and_all_schedules(tmp_path: Path) -> None:
    work, executor, known = measurer(tmp_path)
    assert work.measure("validation", SCHEDULES, ROWS, 16) == {}
    assert [task.rows for task in executor.tasks] == [tuple(ROWS[i : i + 16]) for i in (0, 16, 32)]
    assert all(task.schedules == tuple(SCHEDULES) for task in executor.tasks)
    assert all(known(schedule) == set(ROWS) for schedule in SCHEDULES)


def test_only_what_is_missing_is_measured(tmp_path: Path) -> None:
    work, executor, known = measurer(tmp_path)
    work.measure("validation", SCHEDULES[:3], ROWS[:24], 24)
    executor.tasks.clear()
    work.measure("validation", [*SCHEDULES[:4], SCHEDULES[0]], ROWS, 20)
    assert [(task.rows, len(task.schedules)) for task in executor.tasks] == [
        (tuple(ROWS[:20]), 1),
        (tuple(ROWS[20:]), 4),
    ]
    assert all(known(schedule) == set(ROWS) for schedule in SCHEDULES[:4])


def test_a_schedule_that_fails_is_found_and_left_out(tmp_path: Path) -> None:
    poor = SCHEDULES[4]
    (tmp_path / "failing").write_text(poor.key)
    work, executor, known = measurer(tmp_path)
    assert work.measure("validation", SCHEDULES, ROWS, 20) == {poor.key: "non-finite logits"}
    assert all(known(schedule) == set(ROWS) for schedule in SCHEDULES if schedule != poor)
    assert known(poor) == set()
    tries = [task for task in executor.tasks if poor in task.schedules]
    assert len(tries) <= 4, "found by halves in the first chunk, not asked for in the second"


def test_a_lost_worker_is_no_failure(tmp_path: Path) -> None:
    work, _, known = measurer(tmp_path, lost=1)
    assert work.measure("validation", SCHEDULES, ROWS, 40) == {}
    assert all(known(schedule) == set(ROWS) for schedule in SCHEDULES)


def test_a_schedule_that_keeps_killing_workers_is_to_blame(tmp_path: Path) -> None:
    work, _, _ = measurer(tmp_path, lost=2)
    assert work.measure("validation", SCHEDULES[:1], ROWS, 40) == {SCHEDULES[0].key: "killed"}


@pytest.mark.parametrize("stop_after", [0, 1])
def test_nothing_is_started_once_the_study_is_to_stop(tmp_path: Path, stop_after: int) -> None:
    work, executor, _ = measurer(tmp_path, stop_after=stop_after)
    assert work.measure("validation", SCHEDULES, ROWS, 10) == {}
    assert len(executor.tasks) == stop_after
