"""The first screen in detail: the recommended schedule, what it loses task by task, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune.report.choices import Choice
from autoprune.report.comparisons import HeatCell, heat_cell
from autoprune.report.methods import verdict_words
from autoprune.report.overview import default_bound, is_default, recommended
from autoprune.report.reading import (
    calibration_drop,
    drop_interval,
    drop_of,
    held_out,
    optimism,
    pruned_points,
    quality_of,
    task_names,
    value_of,
)
from autoprune.report.tables import Card, card
from autoprune.report.words import ends, listed, p_words
from autoprune.search.front import FrontFile, Point

_TASKS_SHOWN = 6


@dataclass(frozen=True)
class TaskRow:
    """A task under the recommended schedule: dense, pruned, and what is lost with its interval."""

    name: str
    dense: str
    pruned: str
    lost: HeatCell
    interval: str
    rows: int


@dataclass(frozen=True)
class Recommendation:
    """The recommended schedule.

    Attributes:
        card: Its drawing and its stages.
        taken: How an export comes to take it.
        command: That export.
        tasks: The tasks that lose most, worst first.
        others: The tasks that are not listed, in a sentence.
        certainty: What the claim rests on, each with its name.
    """

    card: Card
    taken: str
    command: str
    tasks: list[TaskRow]
    others: str
    certainty: list[tuple[str, str]]


def answer(front: FrontFile, run: str, choices: Sequence[Choice] = ()) -> Recommendation | None:
    """The recommended schedule in detail; None on an empty front.

    Args:
        front: The front.
        run: The output folder as the commands on the page name it.
        choices: What an export would take, the default loss first.
    """
    point = recommended(front)
    if point is None:
        return None
    ranked = _ranked_tasks(front, point)
    shown = ranked[: _TASKS_SHOWN if len(ranked) > _TASKS_SHOWN + 1 else len(ranked)]
    rows = [_task_row(front, point, task) for task, _ in shown]
    others = _others(front, ranked[len(shown) :])
    shape, default = card(front, "front", point, run), is_default(front, point)
    bound = f"within {default_bound(front)} of dense"
    taken = f"the cheapest {bound}" if default else f"loses least: none is {bound}"
    command = f"autoprune export {run} -o schedule.json" if default else shape.command
    return Recommendation(shape, taken, command, rows, others, certainty(front, point, choices))


def certainty(front: FrontFile, point: Point, choices: Sequence[Choice]) -> list[tuple[str, str]]:
    """What is known of a point's claim: interval, risk, luck of the choice, chance, published methods."""
    found = [
        ("Loss", _loss(front, point)),
        ("Risk", _risk(choices)),
        ("Choice", _choice(front, point)),
        ("Chance", _chance(front, point)),
        ("Published", _published(front, point)),
    ]
    return [(name, said) for name, said in found if said]


def _loss(front: FrontFile, point: Point) -> str:
    row, drop = quality_of(front), drop_of(front, point)
    low_high = drop_interval(front, point)
    sure = f", 95 % interval {ends(row.unit, low_high)}" if low_high else ", without an interval"
    where = "held-out rows" if point.validation else "calibration rows: the study did not get to the held-out ones"
    return f"{row.unit.loss(drop)}{sure}, on {held_out(point).samples} {where}."


def _risk(choices: Sequence[Choice]) -> str:
    """The default export by its estimate, and what can be promised of the same loss."""
    estimate, promised = choices[:2] if len(choices) > 1 else (None, None)
    if estimate is None or promised is None or not estimate.cells:
        return ""
    said = (
        f"Corrected for being picked by these rows it loses {estimate.cells[2]} points; the risk that it is more than"
    )
    sure = f"{promised.cells[0]} at {promised.cells[1]} of the FLOPs" if promised.cells else promised.reason
    return f"{said} {estimate.bound} is {estimate.cells[3]}. With {promised.sure}: {sure}."


def _choice(front: FrontFile, point: Point) -> str:
    row = quality_of(front)
    if not point.validation:
        return "The search chose the point on these very rows, which flatters it."
    points = pruned_points(front)
    gaps = [gap for p in points if (gap := optimism(front, p)) is not None]
    mean = sum(gaps) / len(gaps)
    moves = f"lose {row.unit.loss(mean)} more" if mean >= 0 else f"lose {row.unit.loss(-mean)} less"
    return (
        f"The {len(points)} points of the front were chosen on {point.samples} other rows; there this one loses "
        f"{row.unit.loss(calibration_drop(front, point))}. On held-out rows the points {moves} on average than on the "
        "rows that chose them (winner’s curse)."
    )


def _chance(front: FrontFile, point: Point) -> str:
    marks = [control.mark for control in front.controls if control.of == point.trial and control.mark]
    if not marks:
        return ""
    least = max(mark.adjusted_p for mark in marks)
    if all(mark.decided for mark in marks):
        return f"Its choice of tokens is better than random and even choice of as many (corrected p {_at_most(least)})."
    return (
        f"Its choice of tokens is not shown to beat random or even choice of as many (corrected p = {p_words(least)})."
    )


def _published(front: FrontFile, point: Point) -> str:
    better = [mark.against for mark in point.marks or () if mark.decided]
    own = f"This point costs no more than {listed(better)} and is better. " if better else ""
    said = verdict_words(front)
    return f"{own}The front against all of them: {said}." if said else own.strip()


def _at_most(p: float) -> str:
    return p_words(p) if p < 0.001 else f"≤ {p_words(p)}"


def _ranked_tasks(front: FrontFile, point: Point) -> list[tuple[str, float]]:
    drops = [(task, drop) for task in task_names(front) if (drop := drop_of(front, point, task)) is not None]
    return sorted(drops, key=lambda item: -item[1])


def _task_row(front: FrontFile, point: Point, task: str) -> TaskRow:
    row, dense, mine = quality_of(front), held_out(front.dense).tasks[task], held_out(point).tasks[task]
    low_high = mine.drop_ci if drop_interval(front, point) else None
    return TaskRow(
        name=task,
        dense=row.unit.value(value_of(row, dense)),
        pruned=row.unit.value(value_of(row, mine)),
        lost=heat_cell(front, point, task),
        interval=ends(row.unit, low_high),
        rows=mine.samples,
    )


def _others(front: FrontFile, tasks: list[tuple[str, float]]) -> str:
    if not tasks:
        return ""
    unit, most = quality_of(front).unit, tasks[0][1]
    lose = f"lose {unit.loss(most)} or less" if most > 0 else "lose nothing"
    return f"The other {len(tasks)} tasks {lose}."
