"""The table of every measured schedule, with its filters."""

from __future__ import annotations

from html import escape

from autoprune.report.cards import key_of
from autoprune.report.drawings import small_drawing
from autoprune.report.markup import DOTS, cell, dot, row, table
from autoprune.report.reading import (
    Front,
    Point,
    drop_interval,
    drop_of,
    everything,
    flops_of,
    held_out,
    quality_of,
    worst_task,
)
from autoprune.report.words import interval, milliseconds, percent, point_name, points, quality_value, stage_words


def points_table(front: Front) -> str:
    """Filters and the table that they filter."""
    quality = quality_of(front).label.split(" ")[0].capitalize()
    heads = ["Schedule", "Tokens over depth", "FLOPs", quality, "Drop (points)", "Worst task", "KL (nats)", "KV cache"]
    rows = (_row(front, kind, point) for kind, point in everything(front))
    return _filters() + table([*heads, "Prefill", "End to end"], rows, 'id="points"', sortable=True)


def _filters() -> str:
    boxes = "".join(
        f'<label><input type="checkbox" id="filter-{kind}"{checked}>{dot(kind)}{name}</label>'
        for kind, name in DOTS.items()
        for checked in ["" if kind == "control" else " checked"]
    )
    return (
        '<div class="filters"><label>Find <input type="search" id="filter-words" placeholder="name, layer, criterion">'
        f'</label>{boxes}<label>drop ≤ <input type="number" id="filter-drop" step="0.5"> points</label>'
        '<label>FLOPs ≤ <input type="number" id="filter-flops" step="5" min="0" max="100"> %</label>'
        '<span class="count" id="shown"></span></div>'
    )


def _row(front: Front, kind: str, point: Point) -> str:
    stages, name, drop = point["schedule"]["stages"], point_name(kind, point), drop_of(front, point)
    cells = (cell(shown, f'data-value="{"" if v is None else v}"') for v, shown in _values(front, point))
    search = escape(f"{name} {kind} {' '.join(stage_words(s) for s in stages)}".lower())
    drops = "" if drop is None else drop
    data = f'data-kind="{kind}" data-drop="{drops}" data-flops="{flops_of(point)}" data-search="{search}"'
    return row(kind, name, cells, None if kind == "control" else key_of(kind, point), data)


def _values(front: Front, point: Point) -> list[tuple[float | None, str]]:
    """What each column sorts by, and what it shows."""
    quality, figures, stages = quality_of(front), held_out(point), point["schedule"]["stages"]
    drop, low_high, worst = drop_of(front, point), drop_interval(point), worst_task(front, point)
    value, latency = figures.get(quality.key), point.get("latency") or {}
    certain = interval(figures.get("accuracy_ci")) if quality.key == "accuracy" else ""
    lost = points(drop) if quality.key != "kl" else quality_value(quality.key, drop)
    layers, visual = front["model"]["num_layers"], front["study"].get("visual_tokens")
    return [
        (min((s["layer"] for s in stages), default=layers), small_drawing(stages, layers, visual)),
        (flops_of(point), percent(flops_of(point))),
        (value, f"{quality_value(quality.key, value)} <small>{certain}</small>"),
        (drop, lost + (f" <small>{interval(low_high)}</small>" if low_high and stages else "")),
        (worst[1], f"{points(worst[1])} <small>{escape(worst[0])}</small>") if worst and stages else (None, "–"),
        (figures.get("kl"), quality_value("kl", figures.get("kl"))),
        (figures.get("kv_ratio"), percent(figures.get("kv_ratio"))),
        (latency.get("prefill_ms"), milliseconds(latency.get("prefill_ms"))),
        (latency.get("end_to_end_ms"), milliseconds(latency.get("end_to_end_ms"))),
    ]
