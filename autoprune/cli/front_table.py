"""The front as a table for a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from autoprune.cli.output import table


def front_table(front: dict[str, Any]) -> Table:
    """One row for dense, each point of the front and each published method, cheapest first."""
    from autoprune.report.reading import drop_interval, drop_of, everything, flops_of, held_out, quality_of, worst_task
    from autoprune.report.words import milliseconds, percent, point_name, points, quality_value, stage_short

    quality = quality_of(front)
    columns = ("FLOPs", quality.label.split(" ")[0], "drop (points)", "worst task", "prefill")
    whole = all(point.get("validation") for kind, point in everything(front) if kind != "control")
    rows_of = "held-out figures" if whole else "figures of the calibration rows, where the validation was not reached"
    rows = table(f"{front['study'].get('name')}: {rows_of}, 95 % intervals", "schedule", *columns)
    rows.add_column("layer: keep")
    for column in rows.columns[1:]:
        column.no_wrap = True
    shown = [(kind, p) for kind, p in everything(front) if kind != "control"]
    for kind, point in sorted(shown, key=lambda item: flops_of(item[1])):
        value, drop, worst = held_out(point).get(quality.key), drop_of(front, point), worst_task(front, point)
        stages = point["schedule"]["stages"]
        latency = point.get("latency") or {}
        rows.add_row(
            point_name(kind, point),
            percent(flops_of(point)),
            quality_value(quality.key, value),
            _drop(kind, drop, drop_interval(point), quality.key),
            f"{worst[0]} {points(worst[1])}" if worst and stages else "–",
            milliseconds(latency.get("prefill_ms")),
            "\n".join(map(stage_short, stages)) or "–",
            style="bold" if kind == "front" else None,
        )
    return rows


def _drop(kind: str, drop: float | None, low_high: Any, key: str) -> str:
    from autoprune.report.words import interval, points

    if kind == "dense" or drop is None:
        return "–"
    return f"{drop:.3f} nats" if key == "kl" else f"{points(drop)} {interval(low_high)}"
