"""Figures and names that the page, the plots and the tables derive from a front."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from autoprune.evaluate import objectives
from autoprune.evaluate.objectives import ACCURACY, FLOPS, Objective
from autoprune.evaluate.results import Quality, Summary
from autoprune.search.front import Control, FrontFile, Point
from autoprune.search.notes import ModelNotes, TrialRecord


def quality_of(front: FrontFile) -> Objective:
    """The quality that the front is judged by: accuracy where the study searched for it, else its first quality.

    Only in its own objectives is a front undominated.
    """
    return objectives.quality_of(front.study.objectives)


def held_out(point: Point) -> Summary:
    """The figures to believe: validation, or calibration when the study stopped before its validation."""
    return point.validation or point


def value_of(row: Objective, figures: Quality) -> float:
    """The value of an objective among the figures of a point or of a task."""
    return float(getattr(figures, row.figure))


def nothing_right(front: FrontFile) -> str | None:
    """Why no point of a front can be judged by its accuracy: dense has none that could be lost; None if it has."""
    dense = held_out(front.dense)
    if quality_of(front) != ACCURACY or dense.accuracy > 0:
        return None
    return f"The dense model gets none of {dense.samples} rows right: that a schedule loses nothing says nothing"


def height_of(front: FrontFile, point: Point) -> float:
    """Height of a point on the quality axis."""
    return value_of(quality_of(front), held_out(point))


def flops_of(point: Point) -> float:
    """Prefill FLOPs of a point over dense, on the data that its other shown figures come from."""
    return value_of(FLOPS, held_out(point))


def drop_of(front: FrontFile, point: Point, task: str | None = None) -> float | None:
    """Drop of a point against dense, absolute, overall or for one task; negative when it gains."""
    # Both on the same rows: a point that missed its validation is compared on calibration.
    both = point.validation is not None and front.dense.validation is not None
    mine, dense = (held_out(point), held_out(front.dense)) if both else (point, front.dense)
    row = quality_of(front)
    if task is None:
        return row.lost(value_of(row, dense), value_of(row, mine))
    if task not in mine.tasks or task not in dense.tasks:
        return None
    return row.lost(value_of(row, dense.tasks[task]), value_of(row, mine.tasks[task]))


def lacks_held_out(front: FrontFile, point: Point) -> bool:
    """Whether a point has no held-out figures in a study that has them: it loses too much, or the study was stopped."""
    return point.validation is None and front.dense.validation is not None


def calibration_drop(front: FrontFile, point: Point) -> float:
    """Drop of a point on the rows that it was chosen on."""
    row = quality_of(front)
    return row.lost(value_of(row, front.dense), value_of(row, point))


def optimism(front: FrontFile, point: Point) -> float | None:
    """How much more a point loses on held-out rows than on the rows that it was chosen on; None without the former.

    Positive on average over a front: a point is there because it was good, or lucky, on those rows (winner's curse).
    """
    drop = drop_of(front, point)
    if lacks_held_out(front, point) or point.validation is None or drop is None:
        return None
    return drop - calibration_drop(front, point)


def is_estimate(front: FrontFile, point: Point) -> bool:
    """Whether the figures of a point are those of all rows of a data set.

    A control arm is measured until its comparison is decided; figures of the rows that this took are no estimate.
    """
    if not isinstance(point, Control) or point.measured_on is None:
        return True
    return point.validation is not None or (point.measured_on == "calibration" and point.samples == front.dense.samples)


def drop_interval(front: FrontFile, point: Point) -> tuple[float, float] | None:
    """The 95 % interval of the drop; only that of accuracy is measured."""
    return held_out(point).drop_ci if quality_of(front) == ACCURACY else None


def quality_interval(front: FrontFile, point: Point) -> tuple[float, float] | None:
    """The 95 % interval of the quality; only that of accuracy is measured."""
    return held_out(point).accuracy_ci if quality_of(front) == ACCURACY else None


def worst_task(front: FrontFile, point: Point) -> tuple[str, float] | None:
    """The task that loses most, and how much; None with fewer than two tasks."""
    drops = {task: drop_of(front, point, task) for task in task_names(front)}
    known = {task: drop for task, drop in drops.items() if drop is not None}
    return max(known.items(), key=lambda item: item[1]) if len(known) > 1 else None


def task_names(front: FrontFile) -> list[str]:
    """Task names in the order of the dense point."""
    return list(held_out(front.dense).tasks)


def pruned_points(front: FrontFile) -> list[Point]:
    """The front without the dense model itself, cheapest first."""
    return sorted((p for p in front.points if p.schedule.stages), key=flops_of)


def exportable(front: FrontFile) -> tuple[Point, ...]:
    """Points whose schedules can be taken out of a front: its own, published methods, and those that are safer."""
    return (*front.points, *front.baselines, *(front.anchors or ()))


def explored_trials(front: FrontFile) -> list[tuple[float, float, TrialRecord]]:
    """The trials that were measured on all calibration rows, each schedule once: cost, quality and the trial.

    Others have no quality that could be shown: their rows are the hardest ones, or those after which they were stopped.
    """
    row, found = quality_of(front), []
    for trial in front.study.trials:
        cost, quality = trial.figure(FLOPS.figure), trial.figure(row.figure)
        whole = trial.state == "COMPLETE" and trial.duplicate_of is None
        if whole and cost is not None and quality is not None:
            found.append((cost, quality, trial))
    return found


def everything(front: FrontFile) -> Iterator[tuple[str, Point]]:
    """All measured points with their kind: ``dense``, ``front``, ``preset``, ``control``; each trial once."""
    yield "dense", front.dense
    on_front = pruned_points(front)
    yield from (("front", p) for p in on_front)
    taken = {p.trial for p in on_front}
    yield from (("preset", p) for p in front.baselines if p.trial not in taken and p.schedule.stages)
    yield from (("control", c) for c in front.controls)


def model_name(model: ModelNotes) -> str:
    """A model's name; of a folder on somebody's disk the last two parts."""
    path = PurePath(model.name)
    return "/".join(path.parts[-2:]) if path.is_absolute() else model.name


def point_name(point: Point) -> str:
    """Name of a point on the page; controls name the point that they imitate."""
    name = point.name or f"trial {point.trial}"
    return f"{name} (control of trial {point.of})" if isinstance(point, Control) and str(point.of) not in name else name
