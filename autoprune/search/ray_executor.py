"""The executor on Ray: one actor per worker. Ray never retries anything; the driver is the one that does."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError

from autoprune.errors import EvaluationError, StudyError
from autoprune.search.events import Event, OnEvent
from autoprune.search.ray_actor import Worker
from autoprune.search.tasks import Done, EngineFacts, Task

if TYPE_CHECKING:
    from autoprune.search.spec import StudySpec

_DEATHS_AT_START = 3
_OBJECT_STORE_BYTES = 128 * 1024**2
_RECHECK_S = 2.0


@dataclass
class _Seat:
    """A place for a worker; the actor in it may change.

    Attributes:
        loading: Answer of the actor's start, until it came.
        answer: Answer of the task that it works on.
    """

    name: str
    actor: Any
    loading: Any
    task: Task | None = None
    answer: Any = None


class RayExecutor:
    """Workers as Ray actors, on this machine or on the cluster that ``RAY_ADDRESS`` names."""

    def __init__(self, spec: StudySpec, backend: str, on_event: OnEvent) -> None:
        self._spec, self._backend, self._on_event = spec, backend, on_event
        self._seats: list[_Seat] = []
        self._facts: EngineFacts | None = None
        self._restarts = self._deaths_at_start = 0
        self._own_ray = False
        self._checked = 0.0

    def start(self) -> EngineFacts:
        """Starts Ray and the workers; returns when the first one has loaded the model."""
        self._own_ray = _init_ray(self._spec)
        _check_room(self._spec)
        self._seats = [self._hire(f"worker-{i}") for i in range(self._spec.workers.count)]
        while self._facts is None:
            self._welcome(timeout=1.0)
        return self._facts

    def free(self) -> int:
        """Workers that have loaded the model and have nothing to do."""
        return sum(seat.loading is None and seat.task is None for seat in self._seats)

    def submit(self, task: Task) -> None:
        """Gives a task to a free worker."""
        seat = next(s for s in self._seats if s.loading is None and s.task is None)
        seat.task, seat.answer = task, seat.actor.run.remote(task)

    def wait(self, timeout: float) -> list[Done]:
        """What got done; meanwhile replaces the workers that died, also those that had nothing to do."""
        self._welcome(timeout=0.0)
        self._replace_idle_dead()
        pending = {seat.answer: seat for seat in self._seats if seat.task is not None}
        pending |= {seat.loading: seat for seat in self._seats if seat.loading is not None}
        ready, _ = ray.wait(list(pending), num_returns=1, timeout=timeout) if pending else ([], [])
        # Whatever else is ready by now comes along.
        if len(pending) > 1:
            ready, _ = ray.wait(list(pending), num_returns=len(pending), timeout=0) if ready else (ready, None)
        return [self._finish(pending[ref]) for ref in ready if pending[ref].task is not None]

    def restarts(self) -> int:
        """Workers that were replaced."""
        return self._restarts

    def close(self) -> None:
        """Ends the workers, and Ray if it was started here."""
        for seat in self._seats:
            ray.kill(seat.actor, no_restart=True)
        self._seats = []
        if self._own_ray:
            ray.shutdown()

    def _hire(self, name: str) -> _Seat:
        workers = self._spec.workers
        decorate: Any = ray.remote(num_cpus=workers.cpus, num_gpus=workers.gpus, max_restarts=0, max_task_retries=0)
        actor = decorate(Worker).remote(self._backend, self._spec)
        return _Seat(name, actor, actor.load.remote())

    def _replace(self, seat: _Seat) -> None:
        self._restarts += 1
        ray.kill(seat.actor, no_restart=True)
        self._seats[self._seats.index(seat)] = self._hire(seat.name)

    def _welcome(self, timeout: float) -> None:
        """Takes in workers that have loaded the model.

        Raises:
            AutopruneError: what kept one from it.
            EvaluationError: workers die again and again before they are ready.
        """
        loading = {seat.loading: seat for seat in self._seats if seat.loading is not None}
        if not loading:
            return
        ready, _ = ray.wait(list(loading), num_returns=len(loading), timeout=timeout)
        for ref in ready:
            seat = loading[ref]
            try:
                self._facts = ray.get(ref)
                seat.loading = None
                self._deaths_at_start = 0
            except RayActorError as error:
                self._deaths_at_start += 1
                if self._deaths_at_start >= _DEATHS_AT_START:
                    raise EvaluationError(
                        f"workers die while they load the model, {self._deaths_at_start} in a row: {_words(error)}",
                        remedy="this is often memory: use fewer workers (workers.count)",
                    ) from error
                self._on_event(Event("warning", f"{seat.name} died while it loaded the model: {_words(error)}"))
                self._replace(seat)
            except RayTaskError as error:
                raise _cause(error) from error

    def _replace_idle_dead(self) -> None:
        if time.monotonic() - self._checked < _RECHECK_S:
            return
        self._checked = time.monotonic()
        idle = [seat for seat in self._seats if seat.loading is None and seat.task is None]
        for seat in idle:
            try:
                ray.get(seat.actor.ping.remote(), timeout=10)
            except (ActorDiedError, ActorUnavailableError) as error:
                self._on_event(Event("warning", f"{seat.name} died while it had nothing to do: {_words(error)}"))
                self._replace(seat)

    def _finish(self, seat: _Seat) -> Done:
        task, answer = seat.task, seat.answer
        assert task is not None, "only seats with a task get here"
        seat.task = seat.answer = None
        try:
            kind, value = ray.get(answer)
            return Done(task, **{kind: value}, worker=seat.name)
        except RayActorError as error:
            self._replace(seat)
            return Done(task, lost=_words(error), worker=seat.name)
        except RayTaskError as error:
            return Done(task, bug=_cause(error), worker=seat.name)


def _init_ray(spec: StudySpec) -> bool:
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if not os.environ.get("RAY_ADDRESS"):
        workers = spec.workers
        options |= {
            "num_cpus": workers.count * workers.cpus,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    ray.init(**options)
    return True


def _check_room(spec: StudySpec) -> None:
    """Ray would wait for ever for what the machines do not have."""
    resources: Any = ray.cluster_resources  # untyped in Ray
    there: dict[str, float] = resources()
    for field, kind, each in (("cpus", "CPU", spec.workers.cpus), ("gpus", "GPU", spec.workers.gpus)):
        wanted, has = spec.workers.count * each, there.get(kind, 0)
        if wanted > has:
            raise StudyError(
                f"{spec.workers.count} workers want {wanted:g} {kind}s, Ray has {has:g}",
                field=f"workers.{field}",
                value=each,
                remedy="lower workers.count or what each worker takes",
            )


def _cause(error: RayTaskError) -> BaseException:
    """What the worker really raised."""
    cause = error.cause
    return cause if isinstance(cause, Exception) else error


def _words(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines)[:300] if lines else type(error).__name__
