"""The executor without processes: the driver does the work itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.search.tasks import Done, Engine, EngineFacts, Task
from autoprune.search.worker import open_engine, run_task

if TYPE_CHECKING:
    from autoprune.search.spec import StudySpec


class InProcessExecutor:
    """Runs each task in `wait`, one after the other."""

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

    def wait(self, timeout: float) -> list[Done]:
        """Does what was submitted; `timeout` has no meaning here."""
        assert self._engine is not None, "start() comes first"
        queued, self._queued = self._queued, []
        done = []
        for task in queued:
            try:
                kind, answer = run_task(self._engine, task)
            except Exception as error:  # noqa: BLE001 - the driver stops the study with it and the trial's number
                done.append(Done(task, bug=error, worker="driver"))
                continue
            done.append(Done(task, **{kind: answer}, worker="driver"))
        return done

    def restarts(self) -> int:
        """Never."""
        return 0

    def close(self) -> None:
        """Drops the model."""
        self._engine = None
