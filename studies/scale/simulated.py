"""Workers that take the time of a task without doing any work, so that many of them fit on a small machine."""

from __future__ import annotations

import heapq
import random
import time

from autoprune.evaluate.sharing import Sharing
from autoprune.search.spec import StudySpec
from autoprune.search.workers.local import backend_module, run_task
from autoprune.search.workers.protocol import EngineFacts, OnEvent, Task, TaskResult


class SimulatedExecutor:
    """Tasks of ``workers.count`` workers: each ends after a random time, and is answered when it is waited for.

    Attributes:
        seconds: Mean of that time, which is exponential; set for the class.
    """

    seconds = 0.5

    def __init__(self, spec: StudySpec, backend: str, on_event: OnEvent) -> None:
        self._engine = backend_module(backend).open_engine(spec)
        self._count, self._random = spec.workers.count, random.Random(spec.search.seed)
        self._ends: list[tuple[float, int, Task]] = []

    def start(self) -> EngineFacts:
        return self._engine.facts()

    def free(self) -> int:
        return self._count - len(self._ends)

    def submit(self, task: Task) -> None:
        heapq.heappush(self._ends, (time.monotonic() + self._random.expovariate(1 / self.seconds), task.number, task))

    def wait(self, timeout: float) -> list[TaskResult]:
        if not self._ends:
            return []
        time.sleep(min(timeout, max(0.0, self._ends[0][0] - time.monotonic())))
        ended = []
        while self._ends and self._ends[0][0] <= time.monotonic():
            task = heapq.heappop(self._ends)[2]
            ended.append(run_task(self._engine, task, "simulated"))
        return ended

    def restarts(self) -> int:
        return 0

    def sharing(self) -> Sharing:
        return Sharing()

    def peak_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self._ends = []
