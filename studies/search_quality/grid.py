"""The spaces whose every schedule is measured, each with its model, its rows and the budgets of its searches.

All hold the schedules of one and two stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoprune.schedule import Schedule, parse_criterion
from autoprune.search.methods import Method
from autoprune.search.space import SearchSpace

STUDIES = Path(__file__).parent.parent
KEEP = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
STAGES = 2


@dataclass(frozen=True)
class Grid:
    """A space whose every schedule is measured, and after how much measuring searches of it are compared.

    Attributes:
        space: The space.
        study: Folder of the model and of its calibration rows.
        rows: How many of those rows, from the first one on.
        evaluations: Budgets: row-forwards in schedules with all rows.
        shares: Budgets: parts of the row-forwards of the whole table, increasing. Not empty.
    """

    space: SearchSpace
    study: Path
    rows: int
    evaluations: tuple[int, ...]
    shares: tuple[float, ...]


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


def _of_digit_scenes(layers: Sequence[int], methods: Sequence[Method]) -> Grid:
    """A grid on 64 scenes, 8 rows of each task."""
    space = space_of(layers, KEEP, methods)
    return Grid(space, STUDIES / "digit_scenes", rows=128, evaluations=(100, 150), shares=(0.01, 0.02))


GRIDS = {
    "old": _of_digit_scenes(range(1, 12), _methods("last", "text", "visual")),
    "whole": _of_digit_scenes(
        (0, 1, 2, 3, 4, 6, 8, 10),
        [
            *_methods("last", "text", "visual", "all", "diversity", "encoder"),
            Method(parse_criterion("encoder"), merge=True),
        ],
    ),
    "smol": Grid(
        space_of((0, 4, 10, 18, 24), (0.0, 0.1, 0.3), _methods("text", "diversity")),
        STUDIES / "smol_scenes",
        rows=32,
        evaluations=(),
        shares=(0.25, 0.5),  # a search begins with up to 17 initial schedules: before 20 % all samplers have the same
    ),
}
"""`old`: attention of three sets of rows from layer 1 on, 8,624 schedules; `whole`: seven methods, 18,968 schedules;
`smol`: two methods on the model with a pretrained decoder of 30 layers, 87 schedules."""
