"""The choices of the front against chance, and its losses task by task."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.evaluate.objectives import Objective
from autoprune.report.reading import (
    drop_of,
    everything,
    flops_of,
    height_of,
    held_out,
    is_estimate,
    lacks_held_out,
    point_name,
    pruned_points,
    quality_of,
    task_names,
    value_of,
    worst_task,
)
from autoprune.report.tables import key_of
from autoprune.report.words import p_words, percent
from autoprune.search.front import Control, FrontFile, Point
from autoprune.search.marks import Mark

_FULL_TONE = 0.20


@dataclass(frozen=True)
class ControlRow:
    """A point beside its control arms.

    Attributes:
        cells: FLOPs, quality of the point, of random and of even choice; a dash where an arm was not measured on all
            rows because its comparison was decided before.
        lead: Of the point over random choice; None where that is not known.
        shown: Whether the point is better than every arm with confidence; None where no test was made.
        test: The test in words.
    """

    name: str
    key: str
    cells: list[str]
    lead: float | None
    shown: bool | None
    test: str


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


def control_rows(front: FrontFile) -> list[ControlRow]:
    """Each point beside the same layers and counts with random and even choice."""
    arms: dict[int, list[Control]] = {}
    for control in front.controls:
        arms.setdefault(control.of, []).append(control)
    points = [p for p in pruned_points(front) if p.trial in arms]
    return [_control_row(front, p, arms[p.trial]) for p in points if p.trial is not None]


def control_heads(rows: list[ControlRow]) -> tuple[list[str], list[int]]:
    """Heads of the columns that hold a figure in some row, and their places among the cells."""
    names = ["FLOPs", "Criterion", "Random", "Even", "Ahead of random by"]
    places = [place for place in range(len(names)) if any(row.cells[place] != "–" for row in rows)]
    return [names[place] for place in places], places


def control_note(front: FrontFile) -> str:
    """What was compared, and how often the point was better."""
    rows = control_rows(front)
    tested = [row for row in rows if row.shown is not None]
    first = "Same layers, same number of tokens, but chosen by chance (three seeds) or evenly spaced."
    if tested:
        better = sum(bool(row.shown) for row in tested)
        return (
            f"{first} On {better} of {len(tested)} points the criterion is better than each of these arms on held-out "
            "rows: a paired test clustered by group, corrected for all arms of all points (Holm). An arm is measured "
            "until its test is decided, or cannot be any more; only arms measured on all rows show a figure."
        )
    leads = [row.lead for row in rows if row.lead is not None]
    return f"{first} On {sum(lead > 0 for lead in leads)} of {len(leads)} points the criterion’s estimate is higher."


def heat_rows(front: FrontFile) -> list[HeatRow]:
    """Dense, then the points and the published methods, cheapest first; none with fewer than two tasks."""
    tasks, row = task_names(front), quality_of(front)
    if len(tasks) < 2:
        return []
    dense = held_out(front.dense).tasks
    base = [HeatCell(row.unit.value(value_of(row, dense[task]), _whole(row.unit.scale))) for task in tasks]
    measured = [item for item in everything(front) if not lacks_held_out(front, item[1])]
    shown = sorted((item for item in measured if item[0] in ("front", "preset")), key=lambda i: flops_of(i[1]))
    rows = [HeatRow("dense", "dense", "", "100 %", base)]
    for kind, point in shown:
        cells = [heat_cell(front, point, task) for task in tasks]
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


def heat_cell(front: FrontFile, point: Point, task: str) -> HeatCell:
    """What a point loses on a task; the strongest tone is a loss of 20 points, or of 0.2 nats."""
    drop, worst = drop_of(front, point, task), worst_task(front, point)
    if drop is None:
        return HeatCell("–")
    alpha = min(abs(drop) / _FULL_TONE, 1.0) * 0.62
    framed = worst is not None and worst[0] == task and drop > 0
    return HeatCell(quality_of(front).unit.change(drop), alpha, drop < 0, framed)


def _control_row(front: FrontFile, point: Point, arms: list[Control]) -> ControlRow:
    row, height = quality_of(front), height_of(front, point)
    heights: dict[str, list[float | None]] = {}
    for arm in arms:
        heights.setdefault(_arm(arm), []).append(height_of(front, arm) if is_estimate(front, arm) else None)
    means = {name: sum(known) / len(known) for name, values in heights.items() if (known := _all_known(values))}
    random = means.get("random")
    lead = None if random is None else row.lost(height, random)
    figures = [row.unit.value(value) for value in (height, random, means.get("uniform"))]
    shown, test = _test([arm.mark for arm in arms if arm.mark])
    key = key_of("front", point)
    return ControlRow(
        point_name(point), key, [percent(flops_of(point)), *figures, _signed(row, lead)], lead, shown, test
    )


def _test(marks: list[Mark]) -> tuple[bool | None, str]:
    """Whether a point is better than all its arms, by the least certain of the tests."""
    if not marks:
        return None, "–"
    least = max(marks, key=lambda mark: mark.adjusted_p)
    rows = sorted({mark.samples for mark in marks})
    span = f"{rows[0]}" if len(rows) == 1 else f"{rows[0]} to {rows[-1]}"
    return all(mark.decided for mark in marks), f"p {_with_sign(least.adjusted_p)}, {span} rows"


def _with_sign(p: float) -> str:
    words = p_words(p)
    return words if words.startswith("<") else f"= {words}"


def _all_known(values: list[float | None]) -> list[float]:
    """The values, or none if one of them is not known: a mean of some seeds is no mean of all."""
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


def _signed(row: Objective, lead: float | None) -> str:
    return "–" if lead is None else f"{'+' if lead >= 0 else ''}{row.unit.loss(lead)}"


def _arm(control: Control) -> str:
    chosen = [stage.criterion.name for stage in control.schedule.stages if stage.criterion]
    return "random" if "random" in chosen else "uniform"
