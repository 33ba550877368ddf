"""The chart of a study that still runs, from what its driver tells: figures that nothing has confirmed yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoprune.evaluate.objectives import OBJECTIVES, quality_of
from autoprune.report.chart import BELOW, LINE, explored_trace, front_layout
from autoprune.search.pareto import non_dominated


@dataclass(frozen=True)
class MeasuredTrial:
    """A trial that was measured on all calibration rows.

    Attributes:
        values: Of the study's objectives, in their order.
    """

    number: int
    name: str
    values: tuple[float, ...]


def running_chart(objectives: Sequence[str], trials: Sequence[MeasuredTrial]) -> dict[str, Any]:
    """Traces, layout and a note of what the search has measured so far.

    Args:
        objectives: Names of the study's objectives; at least a cost and a quality.
        trials: In any order.
    """
    rows = [OBJECTIVES[name] for name in objectives]
    cost = next(row for row in rows if row.kind == "cost")
    quality = quality_of(objectives)
    across, up = rows.index(cost), rows.index(quality)
    best = non_dominated([[r.minimised(v) for r, v in zip(rows, t.values, strict=True)] for t in trials])
    on_front = sorted((trials[place] for place in best), key=lambda trial: trial.values[across])

    def hover(trial: MeasuredTrial) -> list[str]:
        figures = f"{cost.unit.value(trial.values[across])} of the {cost.label}"
        return [
            trial.name or f"trial {trial.number}",
            f"{figures}, {quality.label} {quality.unit.value(trial.values[up])}",
            f"trial {trial.number}, on calibration rows",
        ]

    line = LINE | {
        "type": "scatter",
        "name": "Front so far",
        "x": [trial.values[across] for trial in on_front],
        "y": [trial.values[up] for trial in on_front],
        "meta": {"colour": "front", "hover": [hover(trial) for trial in on_front]},
        "hoverinfo": "text",
    }
    explored = explored_trace([(t.values[across], t.values[up]) for t in trials], [hover(t) for t in trials])
    heights = [trial.values[up] for trial in on_front]
    low, high = max(0.0, max(heights, default=1.0) - BELOW) - 0.035, max(heights, default=1.0) + 0.015
    if not quality.more_is_better:
        low, high = -0.02, max([trial.values[up] for trial in trials], default=1.0) * 1.1
    note = "No schedule has been measured on all calibration rows yet."
    if trials:
        note = (
            f"Provisional: {len(trials)} schedules on the calibration rows that the search chooses by, which flatter "
            "what it chose. Held-out figures, intervals and controls come when the search has ended."
        )
    traces = [trace for trace in (explored, line) if trace["x"]]
    return {"traces": traces, "layout": front_layout(cost, quality, low, high), "note": note}
