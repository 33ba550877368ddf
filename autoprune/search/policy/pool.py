"""The candidates among which a policy chooses: all of a small space, else a part that follows the front."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

import numpy as np

from autoprune.evaluate.objectives import FLOPS
from autoprune.schedule import Schedule
from autoprune.search.policy.kernel import Profiles, method_of
from autoprune.search.policy.protocol import CostEstimate, Floats, SearchProblem

WHOLE = 25_000
"""Largest space of which all schedules are candidates."""
_DRAWN, _BINS, _SPARE, _NEAR = 2_000, 20, 3, 30


class Pool:
    """Candidates with their features and costs, each at a place that it keeps.

    Args:
        problem: What is searched.
        profiles: The features.
        schedules: The candidates; of two that prune alike the first stays.
    """

    def __init__(self, problem: SearchProblem, profiles: Profiles, schedules: Iterable[Schedule]) -> None:
        self._problem, self._profiles = problem, profiles
        by_key: dict[str, Schedule] = {}
        for schedule in schedules:
            by_key.setdefault(schedule.key, schedule)
        self.schedules = list(by_key.values())
        self.places = {key: place for place, key in enumerate(by_key)}
        self._names = tuple(dict.fromkeys((*problem.costs, FLOPS.name)))
        self.x: Floats = self._features(self.schedules)
        self.costs = self._costs(self.schedules)

    def __len__(self) -> int:
        return len(self.schedules)

    def add(self, schedules: Iterable[Schedule]) -> None:
        """Takes in further candidates, behind the others."""
        by_key = {schedule.key: schedule for schedule in schedules}
        new = {key: schedule for key, schedule in by_key.items() if key not in self.places}
        if not new:
            return
        self.places |= {key: place for place, key in enumerate(new, start=len(self.schedules))}
        self.schedules += new.values()
        self.x = np.concatenate([self.x, self._features(list(new.values()))])
        self.costs = {
            name: CostEstimate(
                np.concatenate([self.costs[name].mean, more.mean]), np.concatenate([self.costs[name].sd, more.sd])
            )
            for name, more in self._costs(list(new.values())).items()
        }

    def price_again(self, places: Sequence[int]) -> None:
        """Takes up what was learned about the costs of some candidates."""
        new = self._costs([self.schedules[place] for place in places])
        for name, estimate in new.items():
            self.costs[name].mean[places] = estimate.mean
            self.costs[name].sd[places] = estimate.sd

    @property
    def estimated(self) -> list[int]:
        """Places of candidates of which a cost is an estimate."""
        open_ = np.any([estimate.sd > 0 for estimate in self.costs.values()], axis=0)
        return [int(place) for place in np.flatnonzero(open_)]

    def _features(self, schedules: Sequence[Schedule]) -> Floats:
        alive = self._problem.price.alive
        rows = [self._profiles.of(schedule, alive(schedule)) for schedule in schedules]
        return np.array(rows).reshape(len(schedules), self._profiles.size)

    def _costs(self, schedules: Sequence[Schedule]) -> dict[str, CostEstimate]:
        return {name: self._problem.price.estimate(name, schedules) for name in self._names}


def candidates(problem: SearchProblem, measured: Sequence[Schedule], rng: np.random.Generator) -> list[Schedule]:
    """Candidates for a new pool: all that a small space has, of a large one random draws spread over the costs.

    Args:
        problem: What is searched.
        measured: Schedules that the pool must hold.
        rng: Of the draws.
    """
    space = problem.space
    new = list(space.schedules()) if space.size() <= WHOLE else spread_draws(problem, _DRAWN, rng)
    return [*measured, *affordable(problem, new)]


def around(problem: SearchProblem, leading: Iterable[Schedule], rng: np.random.Generator) -> list[Schedule]:
    """Neighbours of the schedules that lead, a few of each."""
    near = [other for schedule in leading for other in islice(problem.space.neighbours(schedule, rng), _NEAR)]
    return affordable(problem, near)


def affordable(problem: SearchProblem, schedules: Sequence[Schedule]) -> list[Schedule]:
    """The schedules within the study's bound on the FLOPs."""
    if problem.max_flops is None:
        return list(schedules)
    flops = problem.price.estimate(FLOPS.name, schedules).mean
    return [s for s, cost in zip(schedules, flops, strict=True) if cost <= problem.max_flops]


def spread_draws(problem: SearchProblem, count: int, rng: np.random.Generator) -> list[Schedule]:
    """Random schedules, about equally many of every range of FLOPs."""
    drawn = [problem.space.draw(rng) for _ in range(_SPARE * count)]
    flops = problem.price.estimate(FLOPS.name, drawn).mean
    bins = np.clip((flops * _BINS).astype(int), 0, _BINS)
    wanted, taken = count // _BINS, np.zeros(_BINS + 1, dtype=int)
    chosen = []
    for place, bin_ in enumerate(bins):
        if taken[bin_] < wanted:
            taken[bin_] += 1
            chosen.append(drawn[place])
    return chosen


def methods_of(schedules: Iterable[Schedule]) -> tuple[str, ...]:
    """Selection methods of schedules, in order of appearance."""
    labels = (method_of(stage) for schedule in schedules for stage in schedule.stages)
    return tuple(dict.fromkeys(label for label in labels if label is not None))
