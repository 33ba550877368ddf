"""The chart of the front: what is in its frame, and its plotly JSON; the script of a page adds colours and markup."""

from __future__ import annotations

from typing import Any

from autoprune.evaluate.objectives import ACCURACY, FLOPS, Objective
from autoprune.report.reading import (
    everything,
    explored_trials,
    flops_of,
    height_of,
    held_out,
    is_estimate,
    lacks_held_out,
    point_name,
    pruned_points,
    quality_interval,
    quality_of,
)
from autoprune.report.tables import key_of
from autoprune.report.words import percent, stage_words
from autoprune.search.front import FrontFile, Point

BELOW = 0.35
"""Points that lose more than this against the best start outside the frame: a front is read near dense."""
_LETTER = 0.014  # width of a letter on the cost axis
_NAME = 0.22  # width of a name on the cost axis of a narrow page
_EDGE = 0.02  # above the bottom, where a name would stand among the notes
Trace = dict[str, Any]
LINE: Trace = {
    "mode": "lines+markers",
    "line": {"width": 1.6, "shape": "hv"},
    "marker": {"symbol": "circle", "size": 10},
}
"""Looks of a front: its points, joined by steps."""
_RING: Trace = {
    "type": "scatter",
    "mode": "markers",
    "x": [],
    "y": [],
    "hoverinfo": "skip",
    "showlegend": False,
    "meta": {"colour": "ink"},
    "marker": {"symbol": "circle-open", "size": 22, "line": {"width": 2}},
}


def visible_range(front: FrontFile, named: list[Point]) -> tuple[float, float, int]:
    """Bottom and top of the quality axis, and how many named points lie below the bottom."""
    heights = [height_of(front, p) for p in named] or [0.0, 1.0]
    if not quality_of(front).more_is_better:
        return -0.02, max((height_of(front, p) for p in pruned_points(front)), default=1.0) * 1.1, 0
    floor = max(min(heights), max(heights) - BELOW) - 0.035
    tops = [held_out(p).accuracy_ci[1] for p in named]
    return floor, min(max(*heights, *tops) + 0.015, 1.012), sum(h < floor for h in heights)


def stands_inside(front: FrontFile, point: Point, low: float) -> bool:
    """Whether the name of a point stands beside it; else it is noted at the bottom edge."""
    return height_of(front, point) >= low + _EDGE or not quality_of(front).more_is_better


def below_frame(front: FrontFile, presets: list[Point], low: float) -> list[tuple[float, int, str]]:
    """Notes at the bottom edge for methods that lie there or below it: their cost, the line they stand on, a text.

    Notes of close neighbours stand on different lines, counted from the edge.
    """
    unit = quality_of(front).unit
    cut = sorted(
        (flops_of(p), f"▼ {p.name} {unit.value(height_of(front, p), 0)}")
        for p in presets
        if not stands_inside(front, p, low)
    )
    ends: list[float] = []
    found = []
    for x, text in cut:
        line = next((i for i, end in enumerate(ends) if end < x), len(ends))
        ends[line : line + 1] = [x + _LETTER * len(text)]
        found.append((x, line, text))
    return found


def label_sides(places: list[tuple[float, float]]) -> list[str]:
    """A side for each name so that names of close neighbours do not cover each other."""
    sides = {
        "bottom right": (0.08, -0.02),
        "top left": (-0.08, 0.02),
        "bottom left": (-0.08, -0.02),
        "top right": (0.08, 0.02),
    }
    taken: list[tuple[float, float]] = list(places)
    chosen = []
    for x, y in places:
        # A name is wide and flat: a vertical distance counts more than the same distance along the line.
        room = {
            side: min((x + dx - a) ** 2 + (4 * (y + dy - b)) ** 2 for a, b in taken if (a, b) != (x, y))
            if len(taken) > 1
            else 0.0
            for side, (dx, dy) in sides.items()
            if dx > 0 or x > _NAME  # else it would stand across the axis on a narrow page
        }
        best = max(room, key=lambda side: room[side])
        chosen.append(best)
        taken.append((x + sides[best][0], y + sides[best][1]))
    return chosen


def chart_data(front: FrontFile) -> dict[str, Any]:
    """Traces, layout, the place of every point that has a card, and the sentence below the chart."""
    groups: dict[str, list[Point]] = {"dense": [], "front": [], "preset": [], "control": []}
    for kind, point in everything(front):
        if kind != "preset":
            groups[kind].append(point)
    groups["preset"] = [p for p in front.baselines if p.schedule.stages]
    far = [p for p in groups["front"] if lacks_held_out(front, p)]
    near = [p for p in groups["front"] if not lacks_held_out(front, p)]
    on_front = points_trace(front, "front", near, "Front") | LINE
    dense = points_trace(front, "dense", groups["dense"], "Dense") | {"marker": {"symbol": "star", "size": 15}}
    arms = [p for p in groups["control"] if is_estimate(front, p)]
    low, high, cut = visible_range(front, [*groups["front"], *groups["preset"], *groups["dense"]])
    traces = [
        _explored(front),
        _controls(front, arms),
        on_front,
        _far(front, far),
        _presets(front, groups["preset"], low),
        dense,
    ]
    return {
        "traces": [trace for trace in traces if trace["x"]],
        "layout": front_layout(FLOPS, quality_of(front), low, high),
        "places": {key_of(k, p): [flops_of(p), height_of(front, p)] for k in groups for p in groups[k]},
        "ring": _RING,
        "below": [
            {"x": x, "y": low, "yshift": 15 * line, "text": text}
            for x, line, text in below_frame(front, groups["preset"], low)
        ],
        "note": _note(front, cut),
    }


def points_trace(front: FrontFile, kind: str, group: list[Point], title: str) -> Trace:
    """Marks of points of one kind, at their held-out figures, with the intervals of these."""
    heights = [height_of(front, p) for p in group]
    trace: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": title,
        "x": [flops_of(p) for p in group],
        "y": heights,
        "meta": {"colour": {"dense": "ink"}.get(kind, kind), "hover": [_hover(front, p) for p in group]},
        "customdata": [key_of(kind, p) for p in group],
        "hoverinfo": "text",
    }
    ends = [quality_interval(front, p) for p in group]
    if quality_of(front) == ACCURACY:
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [end[1] - h for end, h in zip(ends, heights, strict=True) if end],
            "arrayminus": [h - end[0] for end, h in zip(ends, heights, strict=True) if end],
            "thickness": 1.1,
            "width": 3,
        }
    return trace


def _far(front: FrontFile, group: list[Point]) -> Trace:
    """Points without held-out figures: hollow, at their calibration figures, without an interval."""
    trace = points_trace(front, "front", group, "Calibration only")
    trace.pop("error_y", None)
    return trace | {"marker": {"symbol": "circle-open", "size": 9, "line": {"width": 1.5}}}


def _presets(front: FrontFile, group: list[Point], low: float) -> Trace:
    trace = points_trace(front, "preset", group, "Presets")
    places = list(zip(trace["x"], trace["y"], strict=True))
    shown = [point_name(p) if stands_inside(front, p, low) else "" for p in group]
    names = {"text": shown, "textposition": label_sides(places), "textfont": {}}
    return trace | names | {"mode": "markers+text", "marker": {"symbol": "diamond", "size": 11}}


def _controls(front: FrontFile, group: list[Point]) -> Trace:
    trace = points_trace(front, "control", group, "Controls")
    trace.pop("error_y", None)
    trace.pop("customdata")
    marker = {"symbol": "x-thin", "size": 6, "line": {"width": 1.3}}
    return trace | {"marker": marker}


def _explored(front: FrontFile) -> Trace:
    trials = explored_trials(front)
    hover = [["", f"trial {t.trial} · {t.samples} calibration rows"] for _, _, t in trials]
    return explored_trace([(cost, quality) for cost, quality, _ in trials], hover)


def explored_trace(places: list[tuple[float, float]], hover: list[list[str]]) -> Trace:
    """Faint dots of explored schedules: costs, qualities, and the lines of the text at each."""
    return {
        "type": "scatter",
        "name": "Explored",
        "mode": "markers",
        "meta": {"colour": "control", "hover": hover},
        "x": [cost for cost, _ in places],
        "y": [quality for _, quality in places],
        "marker": {"symbol": "circle", "size": 5, "opacity": 0.38},
        "hoverinfo": "text",
    }


def front_layout(cost: Objective, quality: Objective, low: float, high: float) -> dict[str, Any]:
    """Layout of a chart of a quality against a cost that is a share of the dense one."""
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "entrywidth": 100, "entrywidthmode": "pixels"}
    return {
        "xaxis": {"title": {"text": f"{cost.label}, share of dense"}, "range": [0, 1.04], "tickformat": ".0%"},
        "yaxis": {
            "title": {"text": quality.label},
            "range": [low, high],
            "tickformat": ".0%" if quality.more_is_better else "",
        },
        "legend": legend,
        "margin": {"l": 62, "r": 14, "t": 16, "b": 52},
        "hovermode": "closest",
    }


def _note(front: FrontFile, cut: int) -> str:
    split = "held-out" if front.dense.validation else "calibration"
    rows = f"{held_out(front.dense).samples} {split} rows"
    lie = "point lies" if cut == 1 else "points lie"
    below = f"{cut} {lie} below the frame: a double click shows all. " if cut else ""
    sure, row = ", 95 % intervals" if quality_of(front) == ACCURACY else "", quality_of(front)
    far = [p for p in pruned_points(front) if lacks_held_out(front, p) and p.left_out]
    lose = f"{row.unit.loss(front.study.within)} on them" if front.study.within else "too much on them"
    hollow = f"Hollow: calibration rows only, as they lose more than {lose}. " if far else ""
    named = f"Named points: {rows}{sure}. Faint dots: explored schedules on calibration rows."
    return f"{named} {hollow}{below}".strip()


def _hover(front: FrontFile, point: Point) -> list[str]:
    """Lines of the text at a point; the first is its name."""
    row = quality_of(front)
    shown = f"{row.label} {row.unit.value(height_of(front, point))}"
    figures = f"{percent(flops_of(point))} of the FLOPs, {shown}"
    return [point_name(point), figures, *map(stage_words, point.schedule.stages)]
