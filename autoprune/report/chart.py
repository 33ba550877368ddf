"""The chart of the front, as plain plotly JSON; the page's script adds the colours of the reader's theme."""

from __future__ import annotations

from typing import Any

from autoprune.report.cards import key_of
from autoprune.report.frame import height_of, label_sides, visible_range
from autoprune.report.reading import Front, Point, everything, flops_of, held_out, quality_of
from autoprune.report.words import percent, point_name, stage_words

Trace = dict[str, Any]


def chart_data(front: Front) -> dict[str, Any]:
    """Traces, layout, the place of every selectable point, and the sentence below the chart."""
    groups: dict[str, list[Point]] = {"dense": [], "front": [], "preset": [], "control": []}
    for kind, point in everything(front):
        if height_of(front, point) is not None:
            groups[kind].append(point)
    groups["preset"] = [p for p in front["baselines"] if p["schedule"]["stages"] and height_of(front, p) is not None]
    explored = _explored(front)
    traces = [
        explored,
        _trace(
            front,
            "control",
            groups["control"],
            "Controls",
            "control",
            {"symbol": "x-thin", "size": 6, "line": {"width": 1.3}},
            hidden=True,
        ),
        _trace(front, "front", groups["front"], "Front", "front", {"symbol": "circle", "size": 10}, line=True),
        _trace(front, "preset", groups["preset"], "Presets", "preset", {"symbol": "diamond", "size": 11}, names=True),
        _trace(front, "dense", groups["dense"], "Dense", "ink", {"symbol": "star", "size": 15}),
    ]
    places = {key_of(k, p): [flops_of(p), height_of(front, p)] for k in ("front", "preset", "dense") for p in groups[k]}
    low, high, cut = visible_range(front, [*groups["front"], *groups["preset"], *groups["dense"]])
    label = quality_of(front).label
    layout = {
        "xaxis": {"title": {"text": "prefill FLOPs, share of dense"}, "range": [0, 1.04]},
        "yaxis": {"title": {"text": label}, "range": [low, high]},
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "yanchor": "bottom",
            "entrywidth": 64,
            "entrywidthmode": "pixels",
        },
        "margin": {"l": 62, "r": 14, "t": 16, "b": 52},
        "hovermode": "closest",
    }
    below = f"{cut} points lie below the frame; a double click shows them." if cut else ""
    on = f"Named points: {held_out(front['dense'])['samples']} held-out rows with 95 % intervals. Faint dots: explored schedules on calibration rows. {below}"
    return {"traces": [t for t in traces if t["x"]], "layout": layout, "places": places, "ring": _RING, "note": on}


_RING: Trace = {
    "type": "scatter", "mode": "markers", "x": [], "y": [], "hoverinfo": "skip", "showlegend": False, "meta": {"colour": "ink"},
    "marker": {"symbol": "circle-open", "size": 22, "line": {"width": 2}},
}  # fmt: skip


def _trace(
    front: Front,
    kind: str,
    group: list[Point],
    title: str,
    colour: str,
    marker: Trace,
    *,
    line: bool = False,
    names: bool = False,
    hidden: bool = False,
) -> Trace:
    heights = [height_of(front, p) for p in group]
    trace: Trace = {
        "type": "scatter", "name": title, "mode": "+".join(["markers", *(["lines"] if line else []), *(["text"] if names else [])]),
        "x": [flops_of(p) for p in group], "y": heights, "marker": marker, "meta": {"colour": colour},
        "customdata": [key_of(kind, p) for p in group], "hovertext": [_hover(front, kind, p) for p in group], "hoverinfo": "text",
    }  # fmt: skip
    if line:
        trace["line"] = {"width": 1.6, "shape": "hv"}
    if names:
        trace |= {
            "text": [point_name(kind, p) for p in group],
            "textposition": label_sides([(flops_of(p), h or 0.0) for p, h in zip(group, heights, strict=True)]),
            "textfont": {},
        }
    if hidden:
        trace["visible"] = "legendonly"
    elif quality_of(front).key == "accuracy":
        ends = [held_out(p).get("accuracy_ci") or [h, h] for p, h in zip(group, heights, strict=True)]
        bars = list(zip(ends, heights, strict=True))
        trace["error_y"] = {
            "type": "data", "symmetric": False, "thickness": 1.1, "width": 3,
            "array": [e[1] - (h or 0) for e, h in bars], "arrayminus": [(h or 0) - e[0] for e, h in bars],
        }  # fmt: skip
    return trace


def _explored(front: Front) -> Trace:
    key = quality_of(front).key
    trials = [
        t for t in front["study"].get("trials", []) if t.get("flops_ratio") is not None and t.get(key) is not None
    ]
    return {
        "type": "scatter", "name": "Explored", "mode": "markers", "meta": {"colour": "control"}, "hoverinfo": "text",
        "x": [t["flops_ratio"] for t in trials], "y": [t[key] for t in trials],
        "marker": {"symbol": "circle", "size": 5, "opacity": 0.38},
        "hovertext": [f"trial {t['trial']} · {_STATES.get(t['state'], t['state'])} · {t.get('samples') or '?'} calibration rows" for t in trials],
    }  # fmt: skip


_STATES = {"COMPLETE": "measured on all rows", "PRUNED": "stopped early", "FAIL": "failed"}


def _hover(front: Front, kind: str, point: Point) -> str:
    height = height_of(front, point) or 0.0
    shown = f"{height:.3f}" if quality_of(front).key == "kl" else percent(height)
    lines = [
        f"<b>{point_name(kind, point)}</b>",
        f"{percent(flops_of(point))} of the FLOPs, {quality_of(front).label} {shown}",
    ]
    return "<br>".join([*lines, *(stage_words(s) for s in point["schedule"]["stages"])])
