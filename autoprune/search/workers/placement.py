"""Room for the workers of one study: a placement group of Ray, which holds the resources of all of them or of none."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from autoprune.errors import ClusterBusyError, StudyError
from autoprune.search.sections import Workers
from autoprune.search.workers.cluster import Cluster
from autoprune.search.workers.protocol import Event, OnEvent

_LOOK_S = 1.0
_LATER = "other studies hold the rest: start it again later, or ask for less (workers.count, cpus, gpus)"


class Placement:
    """Asks for the resources; `wait` returns once they are held. They are free again when the driver ends.

    Args:
        workers: What the study asks for.
        cluster: Whose resources.
        on_event: Is told what the study waits for.
    """

    def __init__(self, workers: Workers, cluster: Cluster, on_event: OnEvent) -> None:
        self._workers, self._cluster, self._on_event = workers, cluster, on_event
        each = {kind: amount for kind, amount in workers.each.items() if amount}
        self._group: Any = placement_group([each] * workers.count)

    @property
    def strategy(self) -> Any:
        """Scheduling strategy of a worker that belongs here."""
        return PlacementGroupSchedulingStrategy(placement_group=self._group)

    def wait(self, patience_s: float) -> None:
        """Returns once the resources are held.

        Args:
            patience_s: How long nodes may take to join that the study needs.

        Raises:
            StudyError: all nodes together are too small for the study.
            ClusterBusyError: others held the resources for as long as the study may wait (``workers.wait``).
            ClusterError: the head is dead.
        """
        began, told = time.monotonic(), ""
        while not self._group.wait(_LOOK_S):
            waited = time.monotonic() - began
            fits = self._cluster.room() >= self._workers.count
            if not fits and waited >= patience_s:
                raise self._too_small()
            waits_for = self._waits_for()
            if waited >= self._workers.wait:
                raise ClusterBusyError(f"the study {waits_for}", remedy=_LATER)
            if waits_for != told:
                self._on_event(Event("phase", waits_for))
                told = waits_for
        if told:
            self._on_event(Event("phase", "loading the model, now that there is room"))

    def release(self) -> None:
        """Gives the resources back while the driver lives on."""
        remove_placement_group(self._group)

    def _waits_for(self) -> str:
        """Such as ``waits for 2 GPUs; 1 is free``."""
        resources: Any = ray.available_resources  # untyped in Ray
        free: Mapping[str, float] = resources()
        short = [
            f"{_amount(wanted, kind)}; {free.get(kind, 0):g} {'is' if free.get(kind, 0) == 1 else 'are'} free"
            for kind, each in self._workers.each.items()
            if (wanted := each * self._workers.count) > free.get(kind, 0)
        ]
        each = " and ".join(_amount(amount, kind) for kind, amount in self._workers.each.items() if amount)
        return f"waits for {', '.join(short) or f'{self._workers.count} workers of {each}: no nodes have that free'}"

    def _too_small(self) -> StudyError:
        takes = {kind: each for kind, each in self._workers.each.items() if each}
        resources: Any = ray.cluster_resources  # untyped in Ray
        there: Mapping[str, float] = resources()
        for kind, each in takes.items():
            wanted, has = self._workers.count * each, there.get(kind, 0)
            if wanted > has:
                return StudyError(
                    f"{self._workers.count} workers want {_amount(wanted, kind)}, Ray has {has:g}",
                    field=f"workers.{kind.lower()}s",
                    value=each,
                    remedy="lower workers.count or what each worker takes",
                )
        return StudyError(
            f"{self._workers.count} workers of {' and '.join(_amount(each, kind) for kind, each in takes.items())} do "
            f"not fit on the nodes of Ray, {self._cluster.room()} do",
            field="workers.count",
            value=self._workers.count,
            remedy="lower it or what each worker takes",
        )


def _amount(amount: float, kind: str) -> str:
    return f"{amount:g} {kind}" if amount == 1 else f"{amount:g} {kind}s"
