"""Tasks done in this process: by the driver itself (``workers.count: 0``) or inside a worker."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from autoprune.errors import AutopruneError, EvaluationError
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.sharing import Sharing
from autoprune.search.workers.protocol import Backend, Engine, EngineFacts, Task, TaskResult

if TYPE_CHECKING:
    from autoprune.search.spec import StudySpec


def backend_module(name: str) -> Backend:
    """The backend with this module name."""
    return cast(Backend, importlib.import_module(name))


def open_engine(backend: str, spec: StudySpec) -> Engine:
    """Loads the model of a study in this process, on as many threads as a worker has."""
    if spec.workers.count:
        torch.set_num_threads(spec.workers.cpus)
    return backend_module(backend).open_engine(spec)


def run_task(engine: Engine, task: Task, worker: str) -> TaskResult:
    """Result of a task: a value, or the failure that its candidates are to blame for.

    Raises:
        Exception: anything that no candidate can be blamed for.
    """
    try:
        if task.verb == "latency":
            value: Any = engine.latency(task.schedules)
            return TaskResult(task, value, worker=worker, peak_bytes=engine.peak_bytes())
        before = engine.sharing
        value = engine.evaluate(task.split, task.schedules, task.rows)
        _check_finite(value)
        return TaskResult(task, value, worker=worker, sharing=engine.sharing - before, peak_bytes=engine.peak_bytes())
    except AutopruneError as error:
        reason = str(error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        reason = f"out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return TaskResult(task, failure=reason, worker=worker)


def _check_finite(value: Sequence[Sequence[SampleResult]]) -> None:
    """Refuses figures that have no order: neither a policy nor a database can take them."""
    rows = [row for results in value for row in results]
    bad = [row.index for row in rows if not all(map(math.isfinite, (row.correct, row.agreement, row.kl)))]
    if bad:
        raise EvaluationError(
            f"non-finite figures in {len(bad)} of {len(rows)} rows, first in row {bad[0]}",
            remedy="use another dtype, such as bfloat16 or float32",
        )


class LocalExecutor:
    """The executor without processes: runs each task in `wait`, one after the other."""

    def __init__(self, spec: StudySpec, backend: str) -> None:
        self._spec, self._backend = spec, backend
        self._engine: Engine | None = None
        self._queued: list[Task] = []

    def start(self) -> EngineFacts:
        """Loads the model."""
        self._engine = open_engine(self._backend, self._spec)
        return self._engine.facts()

    def free(self) -> int:
        """One task at a time."""
        return 1 - len(self._queued)

    def submit(self, task: Task) -> None:
        """Keeps the task for the next `wait`."""
        self._queued.append(task)

    def wait(self, timeout: float) -> list[TaskResult]:
        """Does what was submitted; `timeout` has no meaning here."""
        queued, self._queued = self._queued, []
        return [self._run(task) for task in queued]

    def restarts(self) -> int:
        """Always 0: this process is the only one."""
        return 0

    def sharing(self) -> Sharing:
        """Work on candidates so far."""
        return self._engine.sharing if self._engine is not None else Sharing()

    def peak_bytes(self) -> int:
        """Largest memory of this process so far."""
        return self._engine.peak_bytes() if self._engine is not None else 0

    def close(self) -> None:
        """Drops the model."""
        self._engine = None

    def _run(self, task: Task) -> TaskResult:
        assert self._engine is not None, "start() comes first"
        try:
            return run_task(self._engine, task, "driver")
        except Exception as error:  # noqa: BLE001 - the driver stops the study with it and the trial's number
            return TaskResult(task, bug=error, worker="driver")
