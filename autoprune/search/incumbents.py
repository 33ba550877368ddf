"""Incumbents: the measured points that a candidate races against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprune.evaluate.results import SampleResult
from autoprune.search import objectives
from autoprune.search.racing import ObjectiveSamples, is_beaten
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import Times

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Point:
    """A point with all rows.

    Attributes:
        name: How a stopped candidate refers to it.
        costs: FloatArray[costs, rows].
        qualities: FloatArray[qualities, rows], more is better.
    """

    name: str
    costs: Floats
    qualities: Floats


class Incumbents:
    """Points with the results of all rows.

    A candidate is tested against ONE of them, the best of those that cost no more: were it tested against each, chance
    alone would sooner or later find one that looks better. The choice rests on all rows of the points, not on those
    that the candidate has been measured on.
    """

    def __init__(self, spec: StudySpec, groups: Sequence[str]) -> None:
        self._spec, self._groups = spec, groups
        self._best_first: list[_Point] = []

    def add(self, name: str, results: Sequence[SampleResult], latency: Times | None) -> None:
        """Adds a point with the results of all rows; `name` is how a stopped candidate refers to it."""
        whole = sorted(results, key=lambda result: result.index)
        point = _Point(name, *self._arrays(whole, latency))
        self._best_first.append(point)
        self._best_first.sort(key=lambda p: -float(p.qualities[0].sum()))

    def winner_over(self, results: Sequence[SampleResult], latency: Times | None, looked: int = 0) -> str | None:
        """Name of the point that beats a candidate with the results of these rows, or None.

        Args:
            results: All that was measured of the candidate.
            latency: Its times, if time is an objective.
            looked: How many results it had when this was asked before.
        """
        rows = [result.index for result in results]
        costs, qualities = self._arrays(results, latency)
        paid = costs.sum(1)
        best = next((p for p in self._best_first if (p.costs[:, rows].sum(1) <= paid).all()), None)
        if best is None:
            return None
        candidate = ObjectiveSamples(costs.tolist(), qualities.tolist())
        incumbent = ObjectiveSamples(best.costs[:, rows].tolist(), best.qualities[:, rows].tolist())
        groups = [self._groups[row] for row in rows]
        return best.name if is_beaten(candidate, incumbent, groups, len(self._groups), looked) else None

    def _arrays(self, results: Sequence[SampleResult], latency: Times | None) -> tuple[Floats, Floats]:
        samples = objectives.objective_samples(self._spec, results, latency)
        return np.array(samples.costs, dtype=float), np.array(samples.qualities, dtype=float)
