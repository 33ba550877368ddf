"""What happens inside a worker: a task in, an answer or a stated failure out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

import torch

from autoprune.errors import AutopruneError
from autoprune.search.tasks import Backend, Engine, Task

if TYPE_CHECKING:
    from autoprune.search.spec import StudySpec

Answer = tuple[str, Any]
"""``("value", answer)`` or ``("failure", reason)``."""


def backend_module(name: str) -> Backend:
    """The backend with this module name."""
    return cast(Backend, importlib.import_module(name))


def open_engine(backend: str, spec: StudySpec) -> Engine:
    """Loads the model of a study in this process, on as many threads as a worker has."""
    if spec.workers.count:
        torch.set_num_threads(spec.workers.cpus)
    return backend_module(backend).open_engine(spec)


def run_task(engine: Engine, task: Task) -> Answer:
    """Does a task. What a candidate can be blamed for is an answer; anything else is a bug and is raised."""
    try:
        if task.verb == "latency":
            return "value", engine.latency(task.schedules)
        return "value", engine.evaluate(task.split, task.schedules, task.start, task.stop)
    except AutopruneError as error:
        return "failure", str(error)
    except (MemoryError, torch.OutOfMemoryError) as error:
        return "failure", f"out of memory: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
