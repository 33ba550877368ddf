"""Two studies side by side: both fronts in one chart, and what each costs within the same loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoprune.evaluate.objectives import FLOPS
from autoprune.report.chart import LINE, front_layout, points_trace, visible_range
from autoprune.report.export import NoPointError, select_point
from autoprune.report.reading import (
    drop_of,
    flops_of,
    height_of,
    held_out,
    lacks_held_out,
    model_name,
    nothing_right,
    point_name,
    pruned_points,
    quality_of,
)
from autoprune.report.words import percent
from autoprune.search.front import FrontFile, Point

_BOUNDS = (0.0, 0.01, 0.02, 0.05)
_LOOKS = (("front", "circle", "star"), ("preset", "diamond", "star-diamond"))


@dataclass(frozen=True)
class BudgetRow:
    """The cheapest point of each of two fronts within a loss.

    Attributes:
        within: The loss in words.
        points: Cost, name and loss of each; None where none qualifies.
    """

    within: str
    points: tuple[tuple[str, str, str] | None, ...]


def paired_chart(fronts: tuple[FrontFile, FrontFile]) -> dict[str, Any]:
    """Traces and layout of two fronts that are judged by the same quality."""
    traces, lows, highs = [], [], []
    for front, (colour, symbol, star) in zip(fronts, _LOOKS, strict=True):
        near = [p for p in pruned_points(front) if not lacks_held_out(front, p)]
        looks = {"marker": {"symbol": symbol, "size": 10}}
        line = points_trace(front, "front", near, front.study.name) | LINE | looks
        dense = points_trace(front, "dense", [front.dense], f"{front.study.name}: dense")
        dense |= {"showlegend": False, "marker": {"symbol": star, "size": 15}}
        for trace in (line, dense):
            traces.append(trace | {"meta": {**trace["meta"], "colour": colour}})
        low, high, _ = visible_range(front, [*near, front.dense])
        lows.append(low)
        highs.append(high)
    layout = front_layout(FLOPS, quality_of(fronts[0]), min(lows), max(highs))
    layout["legend"].pop("entrywidth")
    return {"traces": [trace for trace in traces if trace["x"]], "layout": layout}


def budget_rows(fronts: tuple[FrontFile, FrontFile]) -> list[BudgetRow]:
    """What two fronts offer within the same losses."""
    unit = quality_of(fronts[0]).unit
    return [BudgetRow(unit.loss(bound), tuple(_cheapest(front, bound) for front in fronts)) for bound in _BOUNDS]


def _cheapest(front: FrontFile, bound: float) -> tuple[str, str, str] | None:
    try:
        point = select_point(front, max_drop=bound)
    except NoPointError:
        return None
    return percent(flops_of(point)), point_name(point), quality_of(front).unit.loss(drop_of(front, point))


def pair_facts(front: FrontFile) -> list[tuple[str, str]]:
    """What the figures of a front stand on."""
    row, dense = quality_of(front), held_out(front.dense)
    split = "held-out" if front.dense.validation else "calibration"
    return [
        ("model", f"{model_name(front.model)} ({front.model.model_type}, {front.model.num_layers} layers)"),
        ("rows", f"{dense.samples} {split} rows"),
        (f"dense {row.label}", row.unit.value(height_of(front, front.dense))),
        ("points on the front", str(len(pruned_points(front)))),
    ]


def doubts(fronts: tuple[FrontFile, FrontFile]) -> list[str]:
    """What speaks against reading one front against the other."""
    a, b = fronts
    found = [said for front in fronts if (said := nothing_right(front))]
    if (a.model.fingerprint or a.model.name) != (b.model.fingerprint or b.model.name):
        found.append("The models differ: costs are shares of each model's own dense cost.")
    if _rows(a) != _rows(b):
        found.append("The figures come from different rows: a difference in quality may be one of the rows.")
    if not (a.study.complete and b.study.complete):
        found.append("At least one of the studies was stopped before its end.")
    return found


def are_comparable(fronts: tuple[FrontFile, FrontFile]) -> bool:
    """Whether both are judged by the same quality, so that one axis can show it."""
    return quality_of(fronts[0]) == quality_of(fronts[1])


def _rows(front: FrontFile) -> str | None:
    notes = front.study.data.get("validation" if front.dense.validation else "calibration")
    return notes.digest if notes else None


def front_rows(front: FrontFile) -> list[tuple[Point, str, str, str]]:
    """Points of a front, the dearest first, which lose least: the point, its cost, its quality and its loss."""
    row = quality_of(front)
    return [
        (p, percent(flops_of(p)), row.unit.value(height_of(front, p)), row.unit.loss(drop_of(front, p)))
        for p in reversed(pruned_points(front))
    ]
