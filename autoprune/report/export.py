"""The point of a front that a user asks for: by loss, by cost or by number."""

from __future__ import annotations

from autoprune.errors import AutopruneError, StudyError
from autoprune.report.reading import drop_of, flops_of, point_name, pruned_points, quality_of, task_names
from autoprune.report.words import percent
from autoprune.search.front import FrontFile, Point

DEFAULT_MAX_DROP = 0.01


class NoPointError(AutopruneError, LookupError):
    """The front holds no point that qualifies; the message names the nearest."""


def select_point(
    front: FrontFile,
    *,
    max_drop: float | None = None,
    task: str | None = None,
    max_flops: float | None = None,
    trial: int | None = None,
) -> Point:
    """The point that one selector asks for.

    Args:
        front: The front.
        max_drop: The cheapest point that loses at most this much against dense on validation (point estimate, absolute;
            0.01 = one point of accuracy). The default selector, with 0.01.
        task: Look at the drop of this task instead of the overall one.
        max_flops: The best point whose ``flops_ratio`` is at most this.
        trial: Exactly this trial, a preset's too.

    Raises:
        StudyError: more than one selector, a value out of range, or no such task.
        NoPointError: no point qualifies.
    """
    if sum(v is not None for v in (max_drop, max_flops, trial)) > 1:
        raise StudyError(
            "takes exactly one of --max-drop, --max-flops, --trial", field="selector", remedy="remove the others"
        )
    if trial is not None:
        return _numbered(front, trial)
    if max_flops is not None:
        return _best_within(front, max_flops)
    return _cheapest(front, DEFAULT_MAX_DROP if max_drop is None else max_drop, task)


def _cheapest(front: FrontFile, max_drop: float, task: str | None) -> Point:
    quality = quality_of(front)
    if not (max_drop >= 0 and (max_drop <= 1 or not quality.more_is_better)):
        raise StudyError(
            "must be in [0, 1]", field="max_drop", value=max_drop, remedy="give a share: 0.02 is two points of accuracy"
        )
    if task is not None and task not in task_names(front):
        known = ", ".join(task_names(front)) or "none"
        raise StudyError("the study has no such task", field="max_drop", value=task, remedy=f"its tasks: {known}")
    drops = [(drop, p) for p in pruned_points(front) if (drop := drop_of(front, p, task)) is not None]
    # A float's last digit must not refuse a point that loses exactly the bound.
    within = [p for drop, p in drops if drop <= max_drop + 1e-9]
    if within:
        return min(within, key=flops_of)
    what = f"{quality.label} of {task}" if task else quality.label
    if not drops:
        raise NoPointError(f"no pruned point has a measured {what}", remedy="run the study with more trials")
    drop, nearest = min(drops, key=lambda item: item[0])
    here = f"{point_name(nearest)}, which loses {quality.unit.loss(drop)} at {percent(flops_of(nearest))} of the FLOPs"
    raise NoPointError(
        f"no point loses at most {max_drop:g} in {what}; the nearest is {here}",
        field="max_drop",
        remedy=f"take it with --trial {nearest.trial}, or run the study with more trials",
    )


def _best_within(front: FrontFile, max_flops: float) -> Point:
    if not 0 < max_flops <= 1:
        raise StudyError(
            "must be in (0, 1]",
            field="max_flops",
            value=max_flops,
            remedy="give a share of the dense prefill FLOPs, such as 0.4",
        )
    candidates = pruned_points(front)
    within = [(drop, p) for p in candidates if flops_of(p) <= max_flops and (drop := drop_of(front, p)) is not None]
    if within:
        return min(within, key=lambda item: (item[0], flops_of(item[1])))[1]
    if not candidates:
        raise NoPointError("the front holds no pruned point", remedy="run the study with more trials")
    nearest = candidates[0]
    here = f"{point_name(nearest)} at {flops_of(nearest):.3f}"
    raise NoPointError(
        f"no point costs at most {max_flops:g} of the dense FLOPs; the nearest is {here}",
        field="max_flops",
        remedy=f"take it with --trial {nearest.trial}, or allow more FLOPs",
    )


def _numbered(front: FrontFile, trial: int) -> Point:
    candidates = [*front.points, *front.baselines]
    for point in candidates:
        if point.trial == trial:
            return point
    known = sorted({p.trial for p in candidates if p.trial is not None})
    nearest = min(known, key=lambda n: abs(n - trial), default=None)
    raise NoPointError(
        f"trial {trial} is neither on the front nor a baseline; the nearest number is {nearest}",
        field="trial",
        remedy=f"these can be exported: {', '.join(map(str, known))}",
    )
