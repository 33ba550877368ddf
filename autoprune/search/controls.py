"""Control arms: the same layers and counts as a point, but tokens chosen by chance or evenly spaced.

They answer one question: does the point's choice of tokens beat chance at the same cost? So an arm is measured on as
many rows as the answer takes. The rows are the held-out ones: a point was chosen because it did well on the calibration
rows and its arms were not, so there it would be ahead by the choice alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from autoprune.evaluate.objectives import Objective
from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Criterion, RandomCriterion, Schedule, UniformCriterion
from autoprune.search.marks import Looks, Mark, Pair, marks, open_pairs
from autoprune.search.racing import looks
from autoprune.search.trials import schedule_of

SEEDS = (0, 1, 2)
_FIRST_RUNG = 64

ResultsOf = Callable[[Schedule], Mapping[int, SampleResult]]
"""Known results of a schedule by row."""


@dataclass(frozen=True)
class ControlArm:
    """A control arm of a point.

    Attributes:
        of: Number of the point's trial.
        name: ``random-0`` … ``random-2`` or ``uniform``.
        point: Schedule of the point.
        schedule: Schedule of the arm.
    """

    of: int
    name: str
    point: Schedule
    schedule: Schedule


@dataclass(frozen=True)
class ArmResult:
    """A control arm with its results, which may be those of a part of the rows.

    Attributes:
        arm: The arm.
        results: Its results, in the order of the rows.
        mark: Whether the point is better than the arm.
    """

    arm: ControlArm
    results: tuple[SampleResult, ...]
    mark: Mark


@dataclass(frozen=True)
class ControlRace:
    """All control arms of a study, compared with their points in rungs of rows.

    Attributes:
        arms: The arms.
        looks: Order of the rows, and the rungs.
        quality: Objective that arms are compared in.
    """

    arms: Sequence[ControlArm]
    looks: Looks
    quality: Objective

    @classmethod
    def of(cls, points: Sequence[FrozenTrial], groups: Sequence[Hashable], quality: Objective) -> ControlRace:
        """The race of the arms of these points on rows of these groups."""
        arms = [
            ControlArm(trial.number, name, point, arm)
            for trial in points
            for point in (schedule_of(trial),)
            for name, arm in control_arms(point).items()
        ]
        return cls(arms, Looks(_order(groups), looks(len(groups), _FIRST_RUNG), groups), quality)

    def rungs(self) -> list[list[int]]:
        """The rows that each rung adds."""
        order, starts = list(self.looks.order), (0, *self.looks.counts)
        return [order[start:stop] for start, stop in zip(starts, self.looks.counts, strict=False)]

    def open(self, results: ResultsOf) -> list[Schedule]:
        """Arms that more rows may still decide."""
        left = {(pair.of, pair.against) for pair in open_pairs(self._pairs(results), self.looks)}
        return [arm.schedule for arm in self.arms if (arm.point.key, arm.name) in left]

    def results(self, results: ResultsOf) -> list[ArmResult]:
        """Every arm that was measured, with what is known of it."""
        found = zip(self.arms, marks(self._pairs(results), self.looks), strict=True)
        return [ArmResult(arm, rows, mark) for arm, mark in found if (rows := tuple(results(arm.schedule).values()))]

    def _pairs(self, results: ResultsOf) -> list[Pair]:
        known = {s.key: s for arm in self.arms for s in (arm.point, arm.schedule)}
        values = {key: self._values(results(schedule)) for key, schedule in known.items()}
        return [Pair(a.point.key, a.name, values[a.point.key], values[a.schedule.key]) for a in self.arms]

    def _values(self, results: Mapping[int, SampleResult]) -> dict[int, float]:
        """Quality of each row, more being better."""
        return {row: -self.quality.minimised(getattr(r, self.quality.sample)) for row, r in results.items()}


def control_arms(schedule: Schedule) -> dict[str, Schedule]:
    """The control arms of a schedule by name: three random ones and a uniform one.

    Empty for a schedule that chooses nothing (withdrawals only), nor where the number of tokens depends on scores
    (`mass`, `threshold`): such counts cannot be had without scores.
    """
    selecting = [stage for stage in schedule.stages if stage.selects]
    if not selecting or any(stage.keep.kind in ("mass", "threshold") for stage in selecting):
        return {}
    criteria: dict[str, Criterion] = {f"random-{seed}": RandomCriterion(seed=seed) for seed in SEEDS}
    criteria["uniform"] = UniformCriterion()
    return {name: _with_criterion(schedule, criterion) for name, criterion in criteria.items()}


def _with_criterion(schedule: Schedule, criterion: Criterion) -> Schedule:
    stages = tuple(s.model_copy(update={"criterion": criterion}) if s.selects else s for s in schedule.stages)
    return Schedule(stages=stages, positions=schedule.positions)


def _order(groups: Sequence[Hashable]) -> list[int]:
    """A fixed shuffle of the groups, the rows of one together: a test on groups wants whole ones."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    place = {group: hashlib.sha256(f"rung:{number}".encode()).digest() for group, number in numbers.items()}
    return sorted(range(len(groups)), key=lambda row: place[groups[row]])
