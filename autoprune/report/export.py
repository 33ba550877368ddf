"""The point of a front that a user asks for: by loss, by cost or by number; by what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprune.errors import AutopruneError
from autoprune.report.reading import (
    drop_of,
    exportable,
    flops_of,
    nothing_right,
    point_name,
    pruned_points,
    quality_of,
)
from autoprune.report.wishes import ALL_ROWS, DEFAULT_MAX_DROP, CostLimit, Wish
from autoprune.report.words import percent
from autoprune.search.front import FrontFile, Point

__all__ = ["DEFAULT_MAX_DROP", "NoPointError", "select_point", "wished_point"]


class NoPointError(AutopruneError, LookupError):
    """The front holds no point that qualifies; the message names the nearest."""


def select_point(front: FrontFile, **selector: Any) -> Point:
    """The point that one selector asks for, by point estimates.

    Args:
        front: The front.
        selector: At most one of `max_drop` (the cheapest point that loses at most this much against dense on
            validation, absolute; a mapping gives each task its own bound; default 0.01), `max_flops`,
            `max_latency_ms`, `max_kv` (the best point within the budget) and `trial` (exactly this one, a preset's
            too), as `Wish.of` takes them.

    Raises:
        StudyError: more than one selector, a value out of range, or no such task.
        NoPointError: no point qualifies.
    """
    return wished_point(front, Wish.of(front, **selector))


def wished_point(front: FrontFile, wish: Wish) -> Point:
    """The point that a wish is for, by point estimates.

    Raises:
        NoPointError: no point qualifies, or the dense model gets nothing right.
    """
    refuse_hopeless(front)
    if wish.trial is not None:
        return _numbered(front, wish.trial)
    if wish.budget is not None:
        return _best_within(front, wish.budget, wish.limit)
    return _cheapest(front, wish.bounds or {})


def refuse_hopeless(front: FrontFile) -> None:
    """Refuse a front whose dense model gets nothing right.

    Raises:
        NoPointError: naming the rows.
    """
    if problem := nothing_right(front):
        raise NoPointError(
            problem,
            field="dense.accuracy",
            remedy="look at the prompt and the answers with `autoprune calibrate --dry-run`",
        )


def _drops(front: FrontFile, point: Point, bounds: Mapping[str, float]) -> list[float] | None:
    """Drop beyond each bound; None where one was not measured."""
    excess = []
    for task, bound in bounds.items():
        drop = drop_of(front, point, None if task == ALL_ROWS else task)
        if drop is None:
            return None
        excess.append(drop - bound)
    return excess


def _cheapest(front: FrontFile, bounds: Mapping[str, float]) -> Point:
    excess = [(max(drops), p) for p in pruned_points(front) if (drops := _drops(front, p, bounds)) is not None]
    # A float's last digit must not refuse a point that loses exactly the bound.
    within = [p for beyond, p in excess if beyond <= 1e-9]
    if within:
        return min(within, key=flops_of)
    quality = quality_of(front)
    words = [f"{b:g} in {quality.label}" + ("" if t == ALL_ROWS else f" of {t}") for t, b in bounds.items()]
    if not excess:
        tasks = " and ".join(task for task in bounds if task != ALL_ROWS)
        what = f"{quality.label} of {tasks}" if tasks else quality.label
        raise NoPointError(f"no pruned point has a measured {what}", remedy="run the study with more trials")
    nearest = min(excess, key=lambda item: item[0])[1]
    only = next(iter(bounds)) if len(bounds) == 1 else ALL_ROWS
    loses = quality.unit.loss(drop_of(front, nearest, None if only == ALL_ROWS else only))
    here = f"{point_name(nearest)}, which loses {loses} at {percent(flops_of(nearest))} of the FLOPs"
    raise NoPointError(
        f"no point loses at most {' and '.join(words)}; the nearest is {here}",
        field="max_drop",
        remedy=f"take it by `trial` {nearest.trial}, or run the study with more trials",
    )


def _best_within(front: FrontFile, budget: CostLimit, limit: float) -> Point:
    known = [(cost, drop, p) for p in pruned_points(front) for cost, drop in [(budget.of(p), drop_of(front, p))]]
    costed = [(cost, drop, p) for cost, drop, p in known if cost is not None and drop is not None]
    within = [(drop, cost, p) for cost, drop, p in costed if cost <= limit]
    if within:
        return min(within, key=lambda item: item[:2])[2]
    if not costed:
        said = f"the front holds no pruned point with a known number {budget.what}"
        raise NoPointError(said, field=budget.name, remedy="run the study with more trials")
    cost, _, nearest = min(costed, key=lambda item: item[0])
    here = f"{point_name(nearest)} at {budget.written(cost)}"
    raise NoPointError(
        f"no point costs at most {limit:g} {budget.what}; the nearest is {here}",
        field=budget.name,
        remedy=f"take it by `trial` {nearest.trial}, or allow more",
    )


def _numbered(front: FrontFile, trial: int) -> Point:
    candidates = exportable(front)
    for point in candidates:
        if point.trial == trial:
            return point
    known = sorted({p.trial for p in candidates if p.trial is not None})
    nearest = min(known, key=lambda n: abs(n - trial), default=None)
    raise NoPointError(
        f"trial {trial} is neither on the front nor a baseline; the nearest number is {nearest}",
        field="trial",
        remedy=f"these can be exported: {', '.join(map(str, known))}",
    )
