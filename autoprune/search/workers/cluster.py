"""Whether Ray itself still lives: its head, and nodes with room for a worker.

A driver whose head is dead is aborted by Ray after a minute, inside whatever call it made; one whose raylets are dead
waits for workers that nobody starts. So both are looked for before a call that would wait for them.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from typing import Any

import ray

from autoprune.errors import ClusterError
from autoprune.search.sections import Workers

_RECHECK_S = 2.0
_ANSWER_S = 5.0
_REMEDY = "what was measured is kept: start Ray again if you run it yourself, and run the same command to resume"


class Cluster:
    """The Ray that this process is connected to.

    Args:
        workers: What each worker takes.
    """

    def __init__(self, workers: Workers) -> None:
        self._needs = workers.each
        self._head: str = ray.get_runtime_context().gcs_address
        self._checked = time.monotonic()
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="ray-nodes")

    def check(self, *, now: bool = False) -> None:
        """Asks every two seconds whether head and nodes live; returns at once in between.

        Args:
            now: Whether to ask even if the last answer is younger.

        Raises:
            ClusterError: the head is dead, or no living node has room for a worker.
        """
        if not now and time.monotonic() - self._checked < _RECHECK_S:
            return
        living = self._living()
        if not living:
            raise ClusterError("Ray has no living node: its raylet died (killed, or out of memory)", remedy=_REMEDY)
        if not any(self._holds(node["Resources"]) for node in living):
            each = ", ".join(f"{amount:g} {kind}s" for kind, amount in self._needs.items() if amount)
            raise ClusterError(f"no living node of Ray has room for a worker ({each}) any more", remedy=_REMEDY)
        self._checked = time.monotonic()

    def room(self) -> int:
        """Workers that all living nodes would hold if nobody else used them.

        Raises:
            ClusterError: the head is dead.
        """
        return sum(self._holds(node["Resources"]) for node in self._living())

    def close(self) -> None:
        """Gives the thread back."""
        self._asking.shutdown(wait=False, cancel_futures=True)

    def _holds(self, resources: dict[str, float]) -> int:
        """Workers that a node of these resources holds; a part of a GPU is not taken from several of them."""
        has = {kind: resources.get(kind, 0) for kind in self._needs}
        return min(
            int(has[kind]) * int(1 / amount) if kind == "GPU" and amount < 1 else int(has[kind] // amount)
            for kind, amount in self._needs.items()
            if amount
        )

    def _living(self) -> list[dict[str, Any]]:
        return [node for node in self._nodes() if node["Alive"]]

    def _nodes(self) -> list[dict[str, Any]]:
        self._check_head()
        asked = self._asking.submit(ray.nodes)
        while True:
            try:
                found: list[dict[str, Any]] = asked.result(timeout=_ANSWER_S)
                return found
            except LateError:
                self._check_head()

    def _check_head(self) -> None:
        host, _, port = self._head.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        except OSError as error:
            raise ClusterError(f"Ray's head (GCS at {self._head}) died: {error.strerror}", remedy=_REMEDY) from error
