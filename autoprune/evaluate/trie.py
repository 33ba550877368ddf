"""Schedules arranged as a tree by the stages with which they begin, so that common first stages run once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from autoprune.runtime import ScoreKey
from autoprune.schedule import Reads, Schedule, Stage


@dataclass(frozen=True)
class Branch:
    """Schedules that begin with the same stages.

    Attributes:
        schedule: These stages alone, without those that keep everything; in the tree of its positions.
        ends: Places of the schedules that end here.
        branches: The branches of the others, by their next stage.
    """

    schedule: Schedule
    ends: list[int] = field(default_factory=list)
    branches: dict[Stage, Branch] = field(default_factory=dict)

    @property
    def keys(self) -> list[ScoreKey]:
        """(stage layer, criterion) of the next stages whose scores the pass under these stages can record."""
        asked = [(stage.layer, stage.criterion) for stage in self.next_stages if stage.selects]
        return list(dict.fromkeys((k, c) for k, c in asked if c and c.recordable and c.reads is Reads.LAYER_BEFORE))

    @property
    def next_stages(self) -> Iterable[Stage]:
        """First stage behind these ones, of each branch."""
        behind = len(self.schedule.stages)
        return (branch.schedule.stages[behind] for branch in self.branches.values())


def tree(schedules: Sequence[Schedule]) -> list[Branch]:
    """One tree for each kind of positions; a branch is where schedules part or end.

    Args:
        schedules: In any order.
    """
    roots: dict[str, Branch] = {}
    for place, schedule in enumerate(schedules):
        stages = tuple(stage for stage in schedule.stages if stage.keep.ratio != 1.0)
        branch = roots.setdefault(schedule.positions, Branch(Schedule(positions=schedule.positions)))
        for depth, stage in enumerate(stages, start=1):
            if stage not in branch.branches:
                branch.branches[stage] = Branch(Schedule(stages=stages[:depth], positions=schedule.positions))
            branch = branch.branches[stage]
        branch.ends.append(place)
    return [_without_passages(root) for root in roots.values()]


def _without_passages(branch: Branch) -> Branch:
    """The same branch without those on the way that only one branch leaves: nothing would share their pass."""
    below = {}
    for stage, child in branch.branches.items():
        while not child.ends and len(child.branches) == 1:
            (child,) = child.branches.values()
        below[stage] = _without_passages(child)
    return Branch(branch.schedule, branch.ends, below)
