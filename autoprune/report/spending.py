"""Cost of a study, what it stopped and left out, and how its front grew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoprune.report.reading import explored_trials, quality_of, value_of
from autoprune.report.words import duration, percent
from autoprune.search.costs import PhaseCost
from autoprune.search.front import FrontFile
from autoprune.search.notes import TrialRecord
from autoprune.search.pareto import hypervolume

WITHIN = 0.15
"""Losses beyond this are of no interest, where a front does not say which."""
_PHASES = {
    "dense": "dense reference",
    "search": "search",
    "validation": "held-out rows",
    "controls": "control arms",
    "latency": "times",
}
_STOPPED = {
    "raced": "beaten with confidence by a measured point that costs no more",
    "not worth the rest": "not worth the rest of their rows",
    "over budget": "not begun within the budget",
}


@dataclass(frozen=True)
class SpendingRow:
    """A phase of a study: rows run through a schedule, their share, and the same in runs of the dense model."""

    phase: str
    row_forwards: str
    share: str
    dense_equivalents: str


@dataclass(frozen=True)
class Growth:
    """How a front grew with the rows that were run.

    Attributes:
        row_forwards: After each complete trial, all rows run so far, those of stopped trials included.
        full: Area between front and (dense cost, no quality), as share of its last value.
        useful: Area between front and (dense cost, dense quality minus `StudyNotes.within`), likewise.
    """

    row_forwards: list[int]
    full: list[float]
    useful: list[float]


def spending_rows(front: FrontFile) -> list[SpendingRow]:
    """The cost of each phase, and of all; none in files that do not hold it."""
    costs = {phase: cost for phase, cost in front.study.costs.items() if cost.row_forwards}
    if not costs:
        return []
    rows = sum(cost.row_forwards for cost in costs.values())
    runs = sum(cost.dense_equivalents for cost in costs.values())
    named = [*((_PHASES.get(phase, phase), cost) for phase, cost in costs.items()), ("all", PhaseCost(rows, runs))]
    return [
        SpendingRow(name, f"{c.row_forwards:,}", percent(c.row_forwards / rows), f"{c.dense_equivalents:,.0f}")
        for name, c in named
    ]


def spending_notes(front: FrontFile) -> list[tuple[str, str]]:
    """Candidates, those of them that were stopped by reason, what that saved, shared work, and time."""
    study, tried = front.study, _tried(front)
    whole = sum(trial.state == "COMPLETE" for trial in tried)
    found = [("Candidates", f"{len(tried)} measured, {whole} of them on all calibration rows")]
    stopped = study.stopped or {"raced": study.counts.get("PRUNED", 0), "failed": study.counts.get("FAIL", 0)}
    said = [f"{count} {_STOPPED.get(reason, reason)}" for reason, count in stopped.items() if count]
    found.append(("Stopped", "; ".join(said) or "none"))
    if tried and (calibration := study.data.get("calibration")):
        spent = sum(trial.samples or 0 for trial in tried)
        saved = percent(1 - spent / (len(tried) * calibration.samples))
        found.append(("Saved by stopping", f"{saved} of the rows that these candidates have"))
    if study.hit_rate is not None:
        share = percent(study.hit_rate)
        found.append(("Shared work", f"{share} of the candidates’ layer passes were the dense model’s or another’s"))
    if study.seconds:
        search = f", {duration(study.seconds_search)} of it searching" if study.seconds_search else ""
        found.append(("Time", duration(study.seconds) + search))
    return found


def growth(front: FrontFile) -> Growth:
    """Hypervolume of the complete trials so far, in the order of the trials."""
    quality, within = quality_of(front), front.study.within or WITHIN
    dense = value_of(quality, front.dense)
    worst = dense if quality.more_is_better else max(_losses(front), default=1.0)
    rows, seen, found = 0, [], Growth([], [], [])
    whole = {trial.trial: (cost, value) for cost, value, trial in explored_trials(front)}
    for trial in sorted(_tried(front), key=lambda t: t.trial):
        rows += trial.samples or 0
        if trial.trial not in whole:
            continue
        cost, value = whole[trial.trial]
        seen.append((cost, quality.lost(dense, value)))
        found.row_forwards.append(rows)
        found.full.append(hypervolume(seen, (1.0, worst)))
        found.useful.append(hypervolume(seen, (1.0, within)))
    return Growth(found.row_forwards, _shares(found.full), _shares(found.useful))


def growth_chart(front: FrontFile) -> dict[str, Any] | None:
    """Traces and layout of the growth, for the page's script; None without complete trials."""
    found, unit = growth(front), quality_of(front).unit
    if len(found.row_forwards) < 2:
        return None
    near = f"useful: within {unit.loss(front.study.within or WITHIN)} of dense"
    traces = [
        _line("near", near, found.row_forwards, found.useful, "front", "solid"),
        _line("full", "full", found.row_forwards, found.full, "control", "dot"),
    ]
    lows = [*found.useful, *found.full]
    layout = {
        "xaxis": {"title": {"text": "rows run in the search"}, "rangemode": "tozero", "separatethousands": True},
        "yaxis": {
            "title": {"text": "hypervolume, share of the last"},
            "tickformat": ".0%",
            "range": [max(0.0, min(lows[len(lows) // 8 :]) - 0.05), 1.03],
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 62, "r": 14, "t": 16, "b": 48},
        "hovermode": "x",
    }
    return {"traces": traces, "layout": layout, "fixed": True}


def _tried(front: FrontFile) -> list[TrialRecord]:
    """Trials that were measured on some rows, each schedule once."""
    return [trial for trial in front.study.trials if trial.duplicate_of is None and trial.samples]


def _losses(front: FrontFile) -> list[float]:
    quality = quality_of(front)
    dense = value_of(quality, front.dense)
    return [quality.lost(dense, value) for _, value, _ in explored_trials(front)]


def _shares(areas: list[float]) -> list[float]:
    last = areas[-1] if areas else 0.0
    return [area / last if last else 0.0 for area in areas]


def _line(key: str, name: str, x: list[int], y: list[float], colour: str, dash: str) -> dict[str, Any]:
    hover = [["", f"{name}: {percent(share)} after {rows:,} rows"] for rows, share in zip(x, y, strict=True)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": y,
        "line": {"width": 2, "shape": "hv", "dash": dash},
        "meta": {"colour": colour, "hover": hover},
        "hoverinfo": "text",
    }
