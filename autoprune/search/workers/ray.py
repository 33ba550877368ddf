"""The executor on Ray: one actor per worker. Ray never retries anything; the driver is the one that does."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from autoprune.errors import EvaluationError, ModelError, StudyError
from autoprune.evaluate.sharing import Sharing
from autoprune.search.workers.cluster import Cluster
from autoprune.search.workers.joining import join_ray, named_cluster
from autoprune.search.workers.local import open_engine, run_task
from autoprune.search.workers.placement import Placement
from autoprune.search.workers.protocol import Engine, EngineFacts, Event, OnEvent, Task, TaskResult

if TYPE_CHECKING:
    from autoprune.search.spec import StudySpec

_DEATHS_AT_START = 3
_RECHECK_S = 2.0


class EngineActor:
    """The engine of one worker process; `load` comes first. Plain Python, which the executor makes a Ray actor."""

    def __init__(self, backend: str, spec: StudySpec, name: str) -> None:
        self._backend, self._spec, self._name = backend, spec, name
        self._engine: Engine | None = None

    def load(self) -> EngineFacts:
        """Loads the model from the disk of this node, or from the hub.

        Raises:
            StudyError: a file of the study is not here.
        """
        for field, path in self._spec.files():
            if not os.path.exists(path):
                raise StudyError(
                    f"is not on node {self.node()}",
                    field=field,
                    value=path,
                    remedy="put it there under the same path; all nodes of the cluster need it",
                )
        self._engine = open_engine(self._backend, self._spec)
        return self._engine.facts()

    def node(self) -> str:
        """Name and address of the node that this worker runs on."""
        address: Any = ray.util.get_node_ip_address  # untyped in Ray
        return f"{socket.gethostname()} ({address()})"

    def ping(self) -> None:
        """Returns if this worker is alive."""

    def run(self, task: Task) -> TaskResult:
        """Does a task."""
        assert self._engine is not None, "load() comes first"
        return run_task(self._engine, task, self._name)


@dataclass
class _Worker:
    """A worker of the executor and what it is busy with.

    Attributes:
        actor: Ray's handle of its `EngineActor`.
        loading: Reference to the facts that `load` returns, until the model is loaded.
        task: What it works on.
        running: Reference to the result of `task`.
    """

    name: str
    actor: Any
    loading: Any
    task: Task | None = None
    running: Any = None

    @property
    def is_free(self) -> bool:
        """Whether it has loaded the model and has nothing to do."""
        return self.loading is None and self.task is None


class RayExecutor:
    """Workers as Ray actors, on this machine or on the cluster that ``RAY_ADDRESS`` names."""

    def __init__(self, spec: StudySpec, backend: str, on_event: OnEvent) -> None:
        self._spec, self._backend, self._on_event = spec, backend, on_event
        self._workers: list[_Worker] = []
        self._facts: EngineFacts | None = None
        self._restarts = self._deaths_at_start = 0
        self._sharing = Sharing()
        self._peak_bytes = 0
        self._end_ray: Callable[[], None] | None = None
        self._cluster: Cluster | None = None
        self._placement: Placement | None = None
        self._checked = 0.0

    def start(self) -> EngineFacts:
        """Starts Ray and the workers; returns when the first one has loaded the model."""
        workers = self._spec.workers
        self._end_ray = join_ray(workers)
        self._cluster = Cluster(workers)
        self._placement = Placement(workers, self._cluster, self._on_event)
        self._placement.wait(patience_s=workers.wait if named_cluster() else 0.0)
        self._workers = [self._start_worker(f"worker-{i}") for i in range(self._spec.workers.count)]
        while self._facts is None:
            self._check_cluster()
            self._take_loaded(timeout=1.0)
        return self._facts

    def free(self) -> int:
        """Workers that have loaded the model and have nothing to do."""
        return sum(worker.is_free for worker in self._workers)

    def submit(self, task: Task) -> None:
        """Gives a task to a free worker."""
        worker = next(w for w in self._workers if w.is_free)
        worker.task, worker.running = task, worker.actor.run.remote(task)

    def wait(self, timeout: float) -> list[TaskResult]:
        """Tasks that ended; meanwhile replaces the workers that died, also those that had nothing to do.

        Raises:
            ClusterError: Ray itself died.
        """
        self._check_cluster()
        self._take_loaded(timeout=0.0)
        self._replace_idle_dead()
        pending = {worker.running: worker for worker in self._workers if worker.task is not None}
        pending |= {worker.loading: worker for worker in self._workers if worker.loading is not None}
        ready, _ = ray.wait(list(pending), num_returns=1, timeout=timeout) if pending else ([], [])
        # Whatever else is ready by now comes along.
        if len(pending) > 1:
            ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0) if ready else (ready, None)
        return [self._finish(pending[ref]) for ref in ready if pending[ref].task is not None]

    def restarts(self) -> int:
        """Workers that were replaced."""
        return self._restarts

    def sharing(self) -> Sharing:
        """Work of all workers on candidates so far; what workers that died had not reported is missing."""
        return self._sharing

    def peak_bytes(self) -> int:
        """Largest memory of a worker so far, as workers reported it with their results."""
        return self._peak_bytes

    def close(self) -> None:
        """Ends the workers, and Ray if it was started here."""
        for worker in self._workers:
            ray.kill(worker.actor, no_restart=True)
        self._workers = []
        if self._cluster is not None:
            self._cluster.close()
        if self._end_ray is not None:
            self._end_ray()
        elif self._placement is not None:  # whoever connected this process to Ray goes on
            self._placement.release()

    def _check_cluster(self, *, now: bool = False) -> None:
        if self._cluster is not None:
            self._cluster.check(now=now)

    def _start_worker(self, name: str) -> _Worker:
        assert self._placement is not None, "start() comes first"
        decorate: Any = ray.remote(
            num_cpus=self._spec.workers.cpus,
            num_gpus=self._spec.workers.gpus,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=self._placement.strategy,
        )
        actor = decorate(EngineActor).remote(self._backend, self._spec, name)
        return _Worker(name, actor, actor.load.remote())

    def _replace(self, worker: _Worker) -> None:
        self._restarts += 1
        ray.kill(worker.actor, no_restart=True)
        self._workers[self._workers.index(worker)] = self._start_worker(worker.name)

    def _take_loaded(self, timeout: float) -> None:
        """Marks the workers that have loaded the model as free.

        Raises:
            AutopruneError: what kept one from it.
            EvaluationError: workers die again and again before they are ready.
        """
        loading = {worker.loading: worker for worker in self._workers if worker.loading is not None}
        if not loading:
            return
        ready, _ = ray.wait(list(loading), num_returns=len(loading), timeout=timeout)
        for ref in ready:
            worker = loading[ref]
            try:
                self._take_facts(worker, ray.get(ref))
                worker.loading = None
                self._deaths_at_start = 0
            except RayTaskError as error:
                raise _cause(error) from error
            except RayError as error:  # the actor or its node died, no memory was left, it cannot be placed
                self._deaths_at_start += 1
                if self._deaths_at_start >= _DEATHS_AT_START:
                    raise EvaluationError(
                        f"workers die while they load the model, {self._deaths_at_start} in a row: {_words(error)}",
                        remedy="this is often memory: use fewer workers (workers.count)",
                    ) from error
                self._on_event(Event("warning", f"{worker.name} died while it loaded the model: {_words(error)}"))
                self._replace(worker)

    def _take_facts(self, worker: _Worker, facts: EngineFacts) -> None:
        """Refuses a worker that has loaded other files than the others, as where a node has another copy."""
        if self._facts is not None and self._facts.fingerprint != facts.fingerprint:
            raise ModelError(
                f"differs on node {ray.get(worker.actor.node.remote())} from that of the other workers",
                field="model.path",
                value=self._spec.model.path,
                remedy="put the same files under this path on all nodes",
            )
        self._facts = self._facts or facts

    def _replace_idle_dead(self) -> None:
        if time.monotonic() - self._checked < _RECHECK_S:
            return
        self._checked = time.monotonic()
        for worker in [w for w in self._workers if w.is_free]:
            try:
                ray.get(worker.actor.ping.remote(), timeout=10)
            except GetTimeoutError:
                continue  # slow is not dead
            except RayError as error:
                self._on_event(Event("warning", f"{worker.name} died while it had nothing to do: {_words(error)}"))
                self._replace(worker)

    def _finish(self, worker: _Worker) -> TaskResult:
        task, running = worker.task, worker.running
        assert task is not None, "only workers with a task get here"
        worker.task = worker.running = None
        try:
            result: TaskResult = ray.get(running)
        except RayTaskError as error:
            return TaskResult(task, bug=_cause(error), worker=worker.name)
        except RayError as error:  # the actor or its node died, no memory was left, the result got lost
            self._check_cluster(now=True)  # if Ray itself died, no candidate is to blame
            self._replace(worker)
            return TaskResult(task, lost=_words(error), worker=worker.name)
        self._sharing += result.sharing
        self._peak_bytes = max(self._peak_bytes, result.peak_bytes)
        return result


def _cause(error: RayTaskError) -> BaseException:
    """The exception that the worker raised, out of Ray's."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else error


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__
