"""The chart of the front, as plain plotly JSON; the page's script adds the colours of the reader's theme."""

from __future__ import annotations

from typing import Any

from autoprune.report.cards import key_of
from autoprune.report.frame import below_frame, height_of, label_sides, visible_range
from autoprune.report.reading import Front, Point, everything, explored_trials, flops_of, held_out, quality_of
from autoprune.report.words import percent, point_name, quality_value, stage_words

Trace = dict[str, Any]
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
_STATES = {"COMPLETE": "measured on all rows", "PRUNED": "stopped early", "FAIL": "failed"}


def chart_data(front: Front) -> dict[str, Any]:
    """Traces, layout, the place of every point that has a card, and the sentence below the chart."""
    groups: dict[str, list[Point]] = {"dense": [], "front": [], "preset": [], "control": []}
    for kind, point in everything(front):
        if kind != "preset":
            groups[kind].append(point)
    groups["preset"] = [p for p in front["baselines"] if p["schedule"]["stages"]]
    groups = {kind: [p for p in group if height_of(front, p) is not None] for kind, group in groups.items()}
    on_front = _points(front, "front", groups["front"], "Front") | {"mode": "lines+markers"}
    on_front |= {"line": {"width": 1.6, "shape": "hv"}, "marker": {"symbol": "circle", "size": 10}}
    dense = _points(front, "dense", groups["dense"], "Dense") | {"marker": {"symbol": "star", "size": 15}}
    traces = [_explored(front), _controls(front, groups["control"]), on_front, _presets(front, groups["preset"]), dense]
    low, high, cut = visible_range(front, [*groups["front"], *groups["preset"], *groups["dense"]])
    return {
        "traces": [trace for trace in traces if trace["x"]],
        "layout": _layout(front, low, high),
        "places": {key_of(k, p): [flops_of(p), height_of(front, p)] for k in groups for p in groups[k]},
        "ring": _RING,
        "below": [{"x": x, "y": low, "text": text} for x, text in below_frame(front, groups["preset"], low)],
        "note": _note(front, cut),
    }


def _points(front: Front, kind: str, group: list[Point], title: str) -> Trace:
    heights = [height_of(front, p) or 0.0 for p in group]
    trace: Trace = {
        "type": "scatter",
        "mode": "markers",
        "name": title,
        "x": [flops_of(p) for p in group],
        "y": heights,
        "meta": {"colour": {"dense": "ink"}.get(kind, kind)},
        "customdata": [key_of(kind, p) for p in group],
        "hovertext": [_hover(front, kind, p) for p in group],
        "hoverinfo": "text",
    }
    if quality_of(front).key == "accuracy":
        ends = [held_out(p).get("accuracy_ci") or [h, h] for p, h in zip(group, heights, strict=True)]
        up = [end[1] - h for end, h in zip(ends, heights, strict=True)]
        down = [h - end[0] for end, h in zip(ends, heights, strict=True)]
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": up,
            "arrayminus": down,
            "thickness": 1.1,
            "width": 3,
        }
    return trace


def _presets(front: Front, group: list[Point]) -> Trace:
    trace = _points(front, "preset", group, "Presets")
    places = list(zip(trace["x"], trace["y"], strict=True))
    names = {"text": [point_name("preset", p) for p in group], "textposition": label_sides(places), "textfont": {}}
    return trace | names | {"mode": "markers+text", "marker": {"symbol": "diamond", "size": 11}}


def _controls(front: Front, group: list[Point]) -> Trace:
    trace = _points(front, "control", group, "Controls")
    trace.pop("error_y", None)
    trace.pop("customdata")
    marker = {"symbol": "x-thin", "size": 6, "line": {"width": 1.3}}
    return trace | {"marker": marker}


def _explored(front: Front) -> Trace:
    key = quality_of(front).key
    trials = explored_trials(front)
    return {
        "type": "scatter",
        "name": "Explored",
        "mode": "markers",
        "meta": {"colour": "control"},
        "x": [t["flops_ratio"] for t in trials],
        "y": [t[key] for t in trials],
        "marker": {"symbol": "circle", "size": 5, "opacity": 0.38},
        "hovertext": [
            f"trial {t['trial']} · {_STATES.get(t['state'], t['state'])} · {t['samples']} calibration rows"
            for t in trials
        ],
        "hoverinfo": "text",
    }


def _layout(front: Front, low: float, high: float) -> dict[str, Any]:
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "entrywidth": 64, "entrywidthmode": "pixels"}
    return {
        "xaxis": {"title": {"text": "prefill FLOPs, share of dense"}, "range": [0, 1.04], "tickformat": ".0%"},
        "yaxis": {
            "title": {"text": quality_of(front).label},
            "range": [low, high],
            "tickformat": ".0%" if quality_of(front).more_is_better else "",
        },
        "legend": legend,
        "margin": {"l": 62, "r": 14, "t": 16, "b": 52},
        "hovermode": "closest",
    }


def _note(front: Front, cut: int) -> str:
    split = "held-out" if front["dense"].get("validation") else "calibration"
    rows = f"{held_out(front['dense'])['samples']} {split} rows"
    lie = "point lies" if cut == 1 else "points lie"
    below = f"{cut} {lie} below the frame: a double click shows all. " if cut else ""
    named = f"Named points: {rows}, 95 % intervals. Faint dots: explored schedules on calibration rows."
    return f"{named} {below}Click a point for its schedule."


def _hover(front: Front, kind: str, point: Point) -> str:
    quality = quality_of(front)
    shown = f"{quality.label} {quality_value(quality.key, height_of(front, point))}"
    lines = [f"<b>{point_name(kind, point)}</b>", f"{percent(flops_of(point))} of the FLOPs, {shown}"]
    return "<br>".join([*lines, *(stage_words(s) for s in point["schedule"]["stages"])])
