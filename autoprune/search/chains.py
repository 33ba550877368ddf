"""All chains of stages that a space allows: counted, listed and drawn, without a draw that has to be thrown away.

Layers increase from stage to stage, shares of the original tokens shrink, and nothing follows a withdrawal. A stage
that keeps a share of the score (``mass``) sets no bound for later shares: how much it keeps depends on the input.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from autoprune.schedule import Stage


@dataclass(frozen=True)
class StageGroup:
    """Stages before one layer that leave the same number of tokens; they differ in their method alone.

    Attributes:
        stages: The stages.
        level: Place of their share among the shares of the space; None if they keep a share of the score.
        ends: Whether they withdraw, so that no stage may follow.
    """

    stages: tuple[Stage, ...]
    level: int | None
    ends: bool = False


_Step = tuple[int, StageGroup]


@dataclass(frozen=True)
class Chains:
    """Chains of one to `longest` stages.

    Attributes:
        groups: Groups of stages by place; places are layers in increasing order.
        levels: Number of shares.
        longest: Most stages of a chain.
    """

    groups: Sequence[Sequence[StageGroup]]
    levels: int
    longest: int
    _counts: dict[tuple[int, int, int], int] = field(default_factory=dict)
    _weights: dict[tuple[int, int, int], tuple[list[_Step], NDArray[np.float64]]] = field(default_factory=dict)

    def count(self) -> int:
        """Number of chains."""
        return sum(self._count(-1, self.levels, n) for n in range(1, self.longest + 1))

    def all(self) -> Iterator[tuple[Stage, ...]]:
        """Every chain once, shorter ones first."""
        for length in range(1, self.longest + 1):
            yield from self._of(-1, self.levels, length)

    def holds(self, stages: Sequence[Stage]) -> bool:
        """Whether these stages are one of the chains."""
        place, level, ended = -1, self.levels, False
        for stage in stages:
            to, group = self._places.get(stage, (place, None))
            if ended or group is None or to <= place or (group.level is not None and group.level >= level):
                return False
            place, level, ended = to, level if group.level is None else group.level, group.ends
        return 1 <= len(stages) <= self.longest

    def draw(self, rng: np.random.Generator) -> tuple[Stage, ...]:
        """A number of stages at random, then one of the chains with so many, each as likely as the others."""
        lengths = [n for n in range(1, self.longest + 1) if self._count(-1, self.levels, n)]
        place, level, stages = -1, self.levels, []
        for left in range(lengths[rng.integers(len(lengths))], 0, -1):
            steps, cumulated = self._weighted(place, level, left)
            place, group = steps[int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))]
            level = level if group.level is None else group.level
            stages.append(group.stages[rng.integers(len(group.stages))])
        return tuple(stages)

    @cached_property
    def _places(self) -> dict[Stage, _Step]:
        return {s: (to, group) for to, groups in enumerate(self.groups) for group in groups for s in group.stages}

    def _steps(self, place: int, level: int) -> Iterator[_Step]:
        """Groups that may follow a stage at a place; the shares so far leave the levels below `level`."""
        for to in range(place + 1, len(self.groups)):
            for group in self.groups[to]:
                if group.level is None or group.level < level:
                    yield to, group

    def _count(self, place: int, level: int, length: int) -> int:
        """Chains of exactly so many further stages."""
        key = place, level, length
        if key not in self._counts:
            self._counts[key] = sum(self._ways(step, level, length) for step in self._steps(place, level))
        return self._counts[key]

    def _ways(self, step: _Step, level: int, length: int) -> int:
        """Chains of exactly so many stages that begin with a step."""
        to, group = step
        if length == 1:
            return len(group.stages)
        if group.ends:
            return 0
        return len(group.stages) * self._count(to, level if group.level is None else group.level, length - 1)

    def _weighted(self, place: int, level: int, length: int) -> tuple[list[_Step], NDArray[np.float64]]:
        key = place, level, length
        if key not in self._weights:
            steps = [step for step in self._steps(place, level) if self._ways(step, level, length)]
            ways = itertools.accumulate(self._ways(step, level, length) for step in steps)
            self._weights[key] = steps, np.array([float(way) for way in ways])
        return self._weights[key]

    def _of(self, place: int, level: int, length: int) -> Iterator[tuple[Stage, ...]]:
        for to, group in self._steps(place, level):
            if not self._ways((to, group), level, length):
                continue
            for stage in group.stages:
                if length == 1:
                    yield (stage,)
                    continue
                below = level if group.level is None else group.level
                yield from ((stage, *rest) for rest in self._of(to, below, length - 1))
