"""The front against the published methods, its choices against chance, and its losses task by task."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.report.reading import (
    drop_of,
    everything,
    flops_of,
    height_of,
    held_out,
    point_name,
    pruned_points,
    quality_of,
    task_names,
    value_of,
    worst_task,
)
from autoprune.report.tables import key_of
from autoprune.report.words import percent
from autoprune.search.front import Control, FrontFile, Point
from autoprune.search.notes import PresetVerdict

_UNBEATEN = "no point that the search found is cheaper and at least as good"
_NOT_MEASURED = "not measured on all rows: the trial failed, or racing stopped it because cheaper points were better"
_FULL_TONE = 0.20  # a loss of 20 points, or of 0.2 nats, has the strongest tone


@dataclass(frozen=True)
class VerdictRow:
    """A published method beside the point that beats it.

    Attributes:
        key: Of its card; empty where it was not measured.
        cells: FLOPs, quality; dashes where they are not known.
    """

    name: str
    key: str
    cells: tuple[str, str]
    beaten: bool | None
    reason: str


@dataclass(frozen=True)
class ControlRow:
    """A point beside its control arms: FLOPs, its quality, theirs by chance and evenly spaced, and its lead."""

    name: str
    key: str
    cells: list[str]
    lead: float | None


@dataclass(frozen=True)
class HeatCell:
    """The loss on one task: how strongly it is toned, whether it is a gain, and whether no task loses more."""

    shown: str
    alpha: float = 0.0
    gained: bool = False
    worst: bool = False


@dataclass(frozen=True)
class HeatRow:
    """The losses of a schedule, task by task."""

    kind: str
    name: str
    key: str
    flops: str
    cells: list[HeatCell]


def verdict_rows(front: FrontFile) -> list[VerdictRow]:
    """Which published methods the front beats, and which it does not."""
    known = {p.trial: ("preset", p) for p in front.baselines}
    known |= {p.trial: (kind, p) for kind, p in everything(front) if kind != "control"}
    return [_verdict(front, verdict, known) for verdict in front.study.presets]


def control_rows(front: FrontFile) -> list[ControlRow]:
    """Each point beside the same layers and counts with random and even choice."""
    arms: dict[int, dict[str, list[float]]] = {}
    row = quality_of(front)
    for control in front.controls:
        arms.setdefault(control.of, {}).setdefault(_arm(control), []).append(height_of(front, control))
    found = []
    for point in pruned_points(front):
        own = arms.get(point.trial) if point.trial is not None else None
        if own is None:
            continue
        means = {arm: sum(values) / len(values) for arm, values in own.items()}
        height = height_of(front, point)
        lead = row.lost(height, means["random"]) if "random" in means else None
        figures = [row.unit.value(value) for value in (height, means.get("random"), means.get("uniform"))]
        signed = "–" if lead is None else f"{'+' if lead >= 0 else ''}{row.unit.loss(lead)}"
        cells = [percent(flops_of(point)), *figures, signed]
        found.append(ControlRow(point_name(point), key_of("front", point), cells, lead))
    return found


def heat_rows(front: FrontFile) -> list[HeatRow]:
    """Dense, then the points and the published methods, cheapest first; none with fewer than two tasks."""
    tasks, row = task_names(front), quality_of(front)
    if len(tasks) < 2:
        return []
    dense = held_out(front.dense).tasks
    base = [HeatCell(row.unit.value(value_of(row, dense[task]), _whole(row.unit.scale))) for task in tasks]
    shown = sorted((item for item in everything(front) if item[0] in ("front", "preset")), key=lambda i: flops_of(i[1]))
    rows = [HeatRow("dense", "dense", "", "100 %", base)]
    for kind, point in shown:
        cells = [_heat(front, point, task) for task in tasks]
        rows.append(HeatRow(kind, point_name(point), key_of(kind, point), percent(flops_of(point)), cells))
    return rows


def heat_note(front: FrontFile) -> str:
    """Legend of the heat map."""
    unit = quality_of(front).unit.difference
    few = min((part.samples for part in held_out(front.dense).tasks.values()), default=0)
    return (
        f"The first row is the dense model; each cell below: {unit} lost against dense (negative: gained). Each "
        f"schedule’s worst task is framed. A task has {few} rows or a few more: small differences are noise."
    )


def _whole(scale: float) -> int | None:
    """Whole percents are enough for the dense row."""
    return 0 if scale == 100 else None


def _heat(front: FrontFile, point: Point, task: str) -> HeatCell:
    drop, worst = drop_of(front, point, task), worst_task(front, point)
    if drop is None:
        return HeatCell("–")
    alpha = min(abs(drop) / _FULL_TONE, 1.0) * 0.62
    framed = worst is not None and worst[0] == task and drop > 0
    return HeatCell(quality_of(front).unit.change(drop), alpha, drop < 0, framed)


def _verdict(front: FrontFile, verdict: PresetVerdict, known: dict[int | None, tuple[str, Point]]) -> VerdictRow:
    found = known.get(verdict.trial) if verdict.trial is not None else None
    by = known.get(verdict.by) if verdict.by is not None else None
    if found is None:
        return VerdictRow(verdict.name, "", ("–", "–"), None, _NOT_MEASURED)
    kind, preset = found
    reason = "it is on the front" if kind == "front" else _UNBEATEN
    if by:
        reason = f"{point_name(by[1])}: {percent(flops_of(by[1]))} of the FLOPs at {_quality(front, by[1])}"
    cells = (percent(flops_of(preset)), _quality(front, preset))
    return VerdictRow(verdict.name, key_of(kind, preset), cells, verdict.beaten, reason)


def _arm(control: Control) -> str:
    chosen = [stage.criterion.name for stage in control.schedule.stages if stage.criterion]
    return "random" if "random" in chosen else "uniform"


def _quality(front: FrontFile, point: Point) -> str:
    return quality_of(front).unit.value(height_of(front, point))
