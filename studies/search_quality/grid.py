"""The two spaces whose every schedule is measured: that of the first studies, and a grid of all that the model can run.

Both hold the schedules of one and two stages.
"""

from __future__ import annotations

from collections.abc import Sequence

from autoprune.schedule import Schedule, parse_criterion
from autoprune.search.methods import Method
from autoprune.search.space import SearchSpace

KEEP = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
STAGES = 2


def space_of(layers: Sequence[int], keep: Sequence[float], methods: Sequence[Method]) -> SearchSpace:
    """The space of all schedules of one and two stages over some layers, keeps and methods."""
    return SearchSpace(tuple(layers), tuple(keep), {method.label: method for method in methods}, STAGES)


def families(space: SearchSpace) -> list[tuple[Schedule, ...]]:
    """The schedules of a space, together where they share the first stage, the schedule of that stage alone first."""
    found: dict[str, list[Schedule]] = {}
    for schedule in space.schedules():
        found.setdefault(Schedule(stages=schedule.stages[:1]).key, []).append(schedule)
    return [tuple(family) for family in found.values()]


def _methods(*names: str) -> list[Method]:
    return [Method(parse_criterion(name)) for name in names]


GRIDS = {
    "old": space_of(range(1, 12), KEEP, _methods("last", "text", "visual")),
    "whole": space_of(
        (0, 1, 2, 3, 4, 6, 8, 10),
        KEEP,
        [
            *_methods("last", "text", "visual", "all", "diversity", "encoder"),
            Method(parse_criterion("encoder"), merge=True),
        ],
    ),
}
"""`old`: attention of three sets of rows from layer 1 on, 8,624 schedules; `whole`: seven methods, 18,968 schedules."""
