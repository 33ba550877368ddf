"""The front as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from autoprune.cli.output import table

if TYPE_CHECKING:
    from autoprune.search.front import FrontFile


def front_table(front: FrontFile) -> Table:
    """One row for dense, each point of the front and each published method, cheapest first."""
    from autoprune.report.methods import verdict_words
    from autoprune.report.reading import (
        calibration_drop,
        drop_interval,
        drop_of,
        everything,
        flops_of,
        height_of,
        held_out,
        lacks_held_out,
        point_name,
        quality_of,
        worst_task,
    )
    from autoprune.report.words import UNPRICED, interval, milliseconds, percent, stage_short

    quality = quality_of(front)
    columns = ("FLOPs", quality.short.lower(), f"drop ({quality.unit.difference})", "worst task", "prefill")
    shown = [(kind, point) for kind, point in everything(front) if kind != "control"]
    lacking = [point for _, point in shown if not point.validation]
    rows_of = "held-out figures"
    if front.dense.validation is None:
        rows_of = "figures of the calibration rows, where the validation was not reached"
    elif lacking:
        rows_of = "held-out figures; * = on calibration rows only"
    rows = table(f"{front.study.name}: {rows_of}, 95 % intervals", "schedule", *columns)
    rows.add_column("layer: keep")
    for kind, point in sorted(shown, key=lambda item: flops_of(item[1])):
        worst, stages = worst_task(front, point), point.schedule.stages
        lost = f"{quality.unit.change(drop_of(front, point))} {interval(drop_interval(front, point))}".rstrip()
        figures = [
            quality.unit.value(height_of(front, point)),
            "–" if kind == "dense" else lost,
            f"{worst[0]} {quality.unit.change(worst[1])}" if worst and stages else "–",
        ]
        if lacks_held_out(front, point):
            figures = ["–", f"{quality.unit.change(calibration_drop(front, point))} *", "–"]
        rows.add_row(
            point_name(point),
            percent(flops_of(point)),
            *figures,
            milliseconds(point.latency.prefill_ms if point.latency else None),
            "\n".join(map(stage_short, stages)) or "–",
            style="bold" if kind == "front" else None,
        )
    said = verdict_words(front)
    unpriced = held_out(front.dense).flops_ratio_end_to_end is None
    captions = [*([f"published methods: {said}"] if said else []), *([UNPRICED] if unpriced else [])]
    rows.caption = "\n".join(captions) or None
    return rows
