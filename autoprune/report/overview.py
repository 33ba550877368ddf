"""The first screen: what the study bought in a sentence and a few figures, and what to know before trusting it."""

from __future__ import annotations

from typing import NamedTuple

from autoprune.evaluate.objectives import KV_BYTES, Objective
from autoprune.report.export import DEFAULT_MAX_DROP, NoPointError, select_point
from autoprune.report.methods import verdict_counts
from autoprune.report.reading import (
    drop_interval,
    drop_of,
    flops_of,
    held_out,
    nothing_right,
    point_name,
    pruned_points,
    quality_of,
    value_of,
    worst_task,
)
from autoprune.report.times import speed_up
from autoprune.report.words import UNPRICED, ends, milliseconds, percent, points, share_or_not_priced
from autoprune.search.front import FrontFile, Point

_STOPPED = "The study was stopped before its end: running autoprune calibrate with its study file again resumes it."
_UNVALIDATED = (
    "Not every point was re-measured on validation rows: those figures come from the rows that the search used, "
    "and flatter it."
)


class Span(NamedTuple):
    """A piece of a sentence, and how it is set: plain, strong or code."""

    text: str
    style: str = ""


class Tile(NamedTuple):
    """One figure of the first screen."""

    what: str
    value: str
    beside: str


def recommended(front: FrontFile) -> Point | None:
    """The point that `autoprune export` takes by default; without one, the nearest; None if none can be taken."""
    if nothing_right(front):
        return None
    try:
        return select_point(front)
    except NoPointError:
        known = [(drop, p) for p in pruned_points(front) if (drop := drop_of(front, p)) is not None]
        return min(known, key=lambda item: item[0])[1] if known else None


def is_default(front: FrontFile, point: Point) -> bool:
    """Whether a point is within the loss that an export accepts by default."""
    return _is_within(drop_of(front, point) or 0.0)


def default_bound(front: FrontFile) -> str:
    """The loss that an export accepts by default, in words."""
    row = quality_of(front)
    return "1 point" if row.more_is_better else f"{DEFAULT_MAX_DROP:g} {row.unit.difference}"


def headline(front: FrontFile) -> list[Span]:
    """The study in one sentence."""
    point = recommended(front)
    if point is None:
        return [Span(nothing_right(front) or "No pruned schedule was measured to the end")]
    row, drop = quality_of(front), drop_of(front, point) or 0.0
    flops = [Span(percent(flops_of(point), 0), "strong"), Span(" of the prefill FLOPs")]
    if not _is_within(drop):
        lost = Span(_loss(row, drop), "strong")
        return [
            Span(f"No schedule stays within {default_bound(front)} of dense: the nearest loses "),
            lost,
            Span(" at "),
            *flops,
        ]
    mine, dense = value_of(row, held_out(point)), value_of(row, held_out(front.dense))
    if not row.more_is_better:
        return [Span("Stays within "), Span(_loss(row, drop), "strong"), Span(" of the dense answers at "), *flops]
    if not dense:
        return [Span("The dense model itself gets nothing right: on these rows there is nothing to lose")]
    kept = Span(percent(mine / dense), "strong")
    return [Span("Keeps "), kept, Span(f" of the dense model’s {row.label} at "), *flops]


def lead(front: FrontFile) -> list[Span]:
    """Lead under the headline: the point, its interval, the rows it was measured on."""
    point = recommended(front)
    if point is None:
        return [Span("Run the study with more trials, or look at the failed trials below.")]
    row, figures, dense = quality_of(front), held_out(point), held_out(front.dense)
    where = "held-out rows" if point.validation else "calibration rows (the study stopped before its validation)"
    low_high = drop_interval(front, point)
    sure = f", 95 % interval {points(low_high[0])} to {points(low_high[1])}" if low_high else ""
    drop = drop_of(front, point) or 0.0
    moves = f"loses {row.unit.loss(drop)}" if drop >= 0 else f"gains {row.unit.loss(-drop)}"
    against = f"{row.unit.value(value_of(row, figures))} against {row.unit.value(value_of(row, dense))}{sure}"
    said = Span(f"{_named(point)} {moves} ({against}) on {figures.samples} {where}. ")
    if _is_within(drop):
        cheapest = f": the cheapest schedule within {default_bound(front)} of dense."
        return [said, Span("It is the default of "), Span("autoprune export", "code"), Span(cheapest)]
    more = Span(" takes a larger loss; more trials may find better schedules.")
    return [said, Span("autoprune export --max-drop", "code"), more]


def tiles(front: FrontFile) -> list[Tile]:
    """The recommended point's figures beside the dense ones."""
    point = recommended(front)
    if point is None:
        return []
    row, figures, dense, drop = quality_of(front), held_out(point), held_out(front.dense), drop_of(front, point)
    low_high = drop_interval(front, point)
    value, of_dense = row.unit.value(value_of(row, figures)), row.unit.value(value_of(row, dense))
    sure = f" · 95 % {ends(row.unit, low_high)}" if low_high else ""
    flops = f"of dense · {share_or_not_priced(figures.flops_ratio_end_to_end)} end to end"
    lost = f"Loss of {row.label}" if row.more_is_better else row.short
    found = [
        Tile("Prefill FLOPs", percent(flops_of(point)), flops),
        Tile(lost, row.unit.change(drop), f"{row.unit.difference}{sure} · {value}, dense {of_dense}"),
    ]
    if worst := worst_task(front, point):
        beside = f"{row.unit.difference} lost on {worst[0]}{_task_sure(front, point, worst[0])}"
        found.append(Tile("Worst task", row.unit.change(worst[1]), beside))
    if times := point.latency:
        dense_ms = times.prefill_dense_ms
        fast = speed_up(times.prefill_ms, dense_ms) if dense_ms else milliseconds(times.prefill_ms)
        beside = f"as fast: {milliseconds(times.prefill_ms)}, dense {milliseconds(dense_ms)}" if dense_ms else ""
        found.append(Tile("Prefill time", fast, f"{beside} · batch of {times.batch}" if times.batch else beside))
    found.append(Tile(KV_BYTES.label, percent(figures.kv_ratio), "of the dense bytes"))
    if front.study.presets:
        counts = verdict_counts(front)
        all_of = sum(map(len, counts.values()))
        others = [f"{len(names)} {verdict}" for verdict, names in counts.items() if names and verdict != "beaten"]
        beside = (
            ", ".join([*others, "95 %, held out"])
            if any(v.verdict for v in front.study.presets)
            else "by estimates, no test"
        )
        found.append(Tile("Methods beaten", f"{len(counts['beaten'])} of {all_of}", beside))
    return found


def warnings(front: FrontFile) -> list[str]:
    """Warnings that stand before the figures."""
    unvalidated = any(point.validation is None and not point.left_out for point in front.points)
    unpriced = held_out(front.dense).flops_ratio_end_to_end is None
    found = {_STOPPED: not front.study.complete, _UNVALIDATED: unvalidated, UNPRICED: unpriced}
    return [warning for warning, applies in found.items() if applies]


def _task_sure(front: FrontFile, point: Point, task: str) -> str:
    part = held_out(point).tasks[task]
    low_high = part.drop_ci if drop_interval(front, point) else None
    return f" · 95 % {ends(quality_of(front).unit, low_high)}, {part.samples} rows" if low_high else ""


def _is_within(drop: float) -> bool:
    """A float's last digit must not refuse a point that loses exactly the bound."""
    return drop <= DEFAULT_MAX_DROP + 1e-9


def _named(point: Point) -> str:
    name = point_name(point)
    return f"Trial {point.trial}" if name.startswith("trial") else f"The preset {name}, trial {point.trial},"


def _loss(row: Objective, drop: float) -> str:
    return f"{row.unit.loss(drop)} of {row.label}" if row.more_is_better else row.unit.loss(drop)
