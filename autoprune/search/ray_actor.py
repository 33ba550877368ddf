"""What a Ray worker holds; plain Python, made an actor by the executor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprune.search.tasks import Engine, EngineFacts, Task
from autoprune.search.worker import Answer, open_engine, run_task

if TYPE_CHECKING:
    from autoprune.search.spec import StudySpec


class Worker:
    """Holds the model and its dense pass; `load` comes first."""

    def __init__(self, backend: str, spec: StudySpec) -> None:
        self._backend, self._spec = backend, spec
        self._engine: Engine | None = None

    def load(self) -> EngineFacts:
        """Loads the model."""
        self._engine = open_engine(self._backend, self._spec)
        return self._engine.facts()

    def ping(self) -> None:
        """Answers: this worker lives."""

    def run(self, task: Task) -> Answer:
        """Does a task."""
        assert self._engine is not None, "load() comes first"
        return run_task(self._engine, task)
