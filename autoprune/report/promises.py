"""Which point of a front can be promised to keep its bounds, by tests on the verdicts of single held-out rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.errors import StudyError
from autoprune.evaluate.losses import Array, GroupedLosses
from autoprune.evaluate.objectives import ACCURACY
from autoprune.evaluate.promise import p_values, promised, rows_needed, upper_bound
from autoprune.evaluate.selection import NONE, Choices, selected
from autoprune.report.reading import pruned_points, quality_of
from autoprune.report.wishes import ALL_ROWS
from autoprune.search.front import FrontFile, Point
from autoprune.search.pareto import non_dominated
from autoprune.search.verdicts import RowVerdicts

_HOPELESS = 1000
"""Nobody measures so many times the rows."""
Parts = dict[str, GroupedLosses]
"""Losses on all rows and on those of tasks."""


@dataclass(frozen=True)
class Promise:
    """A point that keeps all bounds with the confidence.

    Attributes:
        point: The cheapest such point.
        optimism: How much less it seems to lose than it does, for having been chosen by these rows.
        most: The loss on all rows that its own test excludes at the confidence.
    """

    point: Point
    optimism: float
    most: float


@dataclass(frozen=True)
class Shortfall:
    """No point can be promised.

    Attributes:
        nearest: The first point in the order of the tests.
        task: The task whose bound it cannot be promised to keep; None for the bound on all rows.
        lost: What it loses there, as measured.
        most: The loss there that its own test excludes at the confidence.
        more: About how many more such rows would do; None where more would hardly help.
    """

    nearest: Point | None
    task: str | None = None
    lost: float = 0.0
    most: float = 1.0
    more: int | None = None


def held_out_verdicts(front: FrontFile) -> RowVerdicts | None:
    """The verdicts of single validation rows, if the study left any."""
    return front.study.verdicts.get("validation")


def losses_by_part(verdicts: RowVerdicts, points: Sequence[Point], tasks: Mapping[str, float]) -> Parts:
    """Losses of points on all rows, and on those of the tasks named."""
    losses = verdicts.losses([p.schedule.key for p in points])
    parts = {ALL_ROWS: GroupedLosses.of(losses, verdicts.groups)}
    for task in tasks:
        if task != ALL_ROWS:
            parts[task] = GroupedLosses.of(losses, verdicts.groups, [name == task for name in verdicts.tasks])
    return parts


def sequence_of(front: FrontFile) -> list[Point]:
    """Anchors, then points, in the order of their tests, dearest first, as the calibration rows alone decide it.

    A point without verdicts ends the order: what the held-out rows left out must not be stepped over.
    """
    points = sorted(pruned_points(front), key=lambda p: (-p.flops_ratio, -p.accuracy))
    kept = non_dominated([(p.flops_ratio, -p.accuracy) for p in points])
    verdicts = held_out_verdicts(front)
    known = set(verdicts.points) if verdicts else set()
    order = [*sorted(front.anchors or (), key=lambda p: -p.flops_ratio), *(points[i] for i in kept)]
    end = next((i for i, p in enumerate(order) if p.schedule.key not in known), len(order))
    return order[:end]


def promise_of(front: FrontFile, bounds: Mapping[str, float], confidence: float) -> Promise | Shortfall:
    """The cheapest point that is promised to keep every bound, or what keeps all of them from it.

    Args:
        front: The front.
        bounds: Largest losses of accuracy, absolute, by task; `ALL_ROWS` for all rows.
        confidence: In (0.5, 1); all bounds hold at once with it.

    Raises:
        StudyError: the study was not judged by accuracy, or the front holds no verdicts of single rows.
    """
    verdicts = _checked_verdicts(front, confidence)
    order = sequence_of(front)
    if not order:
        return Shortfall(None)
    parts = losses_by_part(verdicts, order, bounds)
    tested = [(parts[task], bound) for task, bound in bounds.items()]

    def choose(drawn: Array) -> Choices:
        depth = promised(tested, confidence, drawn).astype(np.int64)
        return np.where(depth > 0, depth - 1, NONE)

    found = selected(choose, parts[ALL_ROWS])
    if found is not None:
        most = upper_bound(parts[ALL_ROWS], found.schedule, confidence)
        return Promise(order[found.schedule], found.optimism, most)
    return _shortfall(order[0], parts, bounds, confidence)


def _shortfall(nearest: Point, parts: Parts, bounds: Mapping[str, float], confidence: float) -> Shortfall:
    short: list[tuple[float, str]] = []
    for task, bound in bounds.items():
        if p_values(parts[task].statistics(), bound)[0, 0] > 1 - confidence + 1e-12:
            needed = rows_needed(parts[task], 0, bound, confidence)
            short.append((math.inf if needed is None else needed / max(parts[task].rows, 1), task))
    times, task = max(short)
    part = parts[task]
    more = None if times > _HOPELESS else max(math.ceil((times - 1) * part.rows), 1)
    most = upper_bound(part, 0, confidence)
    return Shortfall(nearest, None if task == ALL_ROWS else task, float(part.drops()[0, 0]), most, more)


def _checked_verdicts(front: FrontFile, confidence: float) -> RowVerdicts:
    quality = quality_of(front)
    if quality != ACCURACY:
        raise StudyError(
            f"a promise is about {ACCURACY.label}, and this study is judged by {quality.label}",
            field="confidence", value=confidence, remedy="leave it out for the point estimate",
        )  # fmt: skip
    verdicts = held_out_verdicts(front)
    if verdicts is None:
        raise StudyError(
            "front.json holds no verdicts of single validation rows (study.verdicts.validation), which a promise is "
            "made from",
            field="confidence",
            value=confidence,
            remedy="run autoprune calibrate with its study file again: what was measured is kept; the study needs "
            "validation rows and a metric that says right or wrong",
        )
    return verdicts
