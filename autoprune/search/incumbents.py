"""Incumbents: the measured points that a candidate races against."""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.evaluate.results import SampleResult
from autoprune.search import objectives
from autoprune.search.racing import ObjectiveSamples, is_beaten
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import Times


class Incumbents:
    """Points with the results of all rows.

    A candidate is tested against ONE of them, the best of those that cost no more: were it tested against each, chance
    alone would sooner or later find one that looks better. The choice rests on all samples of the points, not on those
    that the candidate has been measured on.
    """

    def __init__(self, spec: StudySpec, groups: Sequence[str]) -> None:
        self._spec, self._groups = spec, groups
        self._points: list[tuple[str, dict[int, SampleResult], Times | None, float]] = []

    def add(self, name: str, results: Sequence[SampleResult], latency: Times | None) -> None:
        """Adds a point with the results of all rows; `name` is how a stopped candidate refers to it."""
        quality = sum(objectives.objective_samples(self._spec, results, latency).qualities[0])
        self._points.append((name, {r.index: r for r in results}, latency, quality))

    def winner_over(self, results: Sequence[SampleResult], latency: Times | None) -> str | None:
        """Name of the point that beats a candidate with the results of these rows, or None."""
        candidate, rows = objectives.objective_samples(self._spec, results, latency), [r.index for r in results]
        best: tuple[float, str, ObjectiveSamples] | None = None
        for name, whole, its_latency, quality in self._points:
            incumbent = objectives.objective_samples(self._spec, [whole[row] for row in rows], its_latency)
            costs = zip(candidate.costs, incumbent.costs, strict=True)
            if all(sum(b) <= sum(a) for a, b in costs) and (best is None or quality > best[0]):
                best = (quality, name, incumbent)
        if best and is_beaten(candidate, best[2], [self._groups[row] for row in rows], len(self._groups)):
            return best[1]
        return None
