"""Read a front.json and the few figures that everything here derives from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from autoprune.errors import StudyError
from autoprune.search.front import FrontFile

Front = dict[str, Any]
Point = dict[str, Any]


class Quality(NamedTuple):
    """The figure that says how good a point is: its key, its name for people, and whether more is better."""

    key: str
    label: str
    more_is_better: bool


_QUALITIES = {
    "accuracy": Quality("accuracy", "accuracy", True),
    "agreement": Quality("agreement", "agreement with the dense model", True),
    "kl": Quality("kl", "KL(dense ‖ pruned)", False),
}


def load_front(folder: str | Path) -> Front:
    """The front.json of a study's output folder.

    Raises:
        StudyError: there is none, or it is not what a study writes.
    """
    path = Path(folder) / "front.json"
    remedy = "give the output folder of a study; `autoprune calibrate STUDY.yaml` finishes an interrupted one"
    try:
        front = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"cannot be read: {error.strerror}", field="run", value=str(path), remedy=remedy) from None
    except ValueError as error:
        raise StudyError(f"is not JSON: {error}", field="run", value=str(path), remedy=remedy) from None
    try:
        FrontFile.model_validate(front)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = f"is no front: {where + ': ' if where else ''}{first['msg']}"
        raise StudyError(message, field="run", value=str(path), remedy=remedy) from None
    return dict(front)


def quality_of(front: Front) -> Quality:
    """Accuracy where the data has answers, else the study's first quality objective."""
    if held_out(front["dense"]).get("accuracy") is not None:
        return _QUALITIES["accuracy"]
    named = [o for o in front["study"].get("objectives", []) if o in _QUALITIES and o != "accuracy"]
    return _QUALITIES[named[0] if named else "agreement"]


def held_out(point: Point) -> dict[str, Any]:
    """The figures to believe: validation, or calibration when the study stopped before its validation."""
    return point.get("validation") or point


def flops_of(point: Point) -> float:
    """Prefill FLOPs of a point over dense, on the data that its other shown figures come from."""
    return float(held_out(point)["flops_ratio"])


def drop_of(front: Front, point: Point, task: str | None = None) -> float | None:
    """What a point loses against dense, absolute, overall or for one task; negative when it gains."""
    quality = quality_of(front)
    # Both on the same rows: a point that missed its validation is compared on calibration.
    both = bool(point.get("validation") and front["dense"].get("validation"))
    mine, dense = (held_out(point), held_out(front["dense"])) if both else (point, front["dense"])
    if task is not None:
        mine, dense = mine.get("tasks", {}).get(task, {}), dense.get("tasks", {}).get(task, {})
    if mine.get(quality.key) is None or dense.get(quality.key) is None:
        return None
    lost = float(dense[quality.key]) - float(mine[quality.key])
    return lost if quality.more_is_better else -lost


def drop_interval(point: Point) -> tuple[float, float] | None:
    """The 95 % interval of the drop, where the study measured one."""
    low_high = held_out(point).get("drop_ci")
    return (float(low_high[0]), float(low_high[1])) if low_high else None


def worst_task(front: Front, point: Point) -> tuple[str, float] | None:
    """The task that loses most, and how much; None with fewer than two tasks."""
    drops = {task: drop_of(front, point, task) for task in task_names(front)}
    known = {task: drop for task, drop in drops.items() if drop is not None}
    return max(known.items(), key=lambda item: item[1]) if len(known) > 1 else None


def task_names(front: Front) -> list[str]:
    """Task names in the order of the dense point."""
    return list(held_out(front["dense"]).get("tasks", {}))


def pruned_points(front: Front) -> list[Point]:
    """The front without the dense model itself, cheapest first."""
    return sorted((p for p in front["points"] if p["schedule"]["stages"]), key=flops_of)


def explored_trials(front: Front) -> list[dict[str, Any]]:
    """The trials that were measured on some rows or all, each schedule once."""
    key = quality_of(front).key
    trials = front["study"]["trials"]
    return [t for t in trials if t.get("duplicate_of") is None and None not in (t.get("flops_ratio"), t.get(key))]


def everything(front: Front) -> Iterator[tuple[str, Point]]:
    """All measured points with their kind: ``dense``, ``front``, ``preset``, ``control``; each trial once."""
    yield "dense", front["dense"]
    on_front = pruned_points(front)
    yield from (("front", p) for p in on_front)
    taken = {p["trial"] for p in on_front}
    yield from (("preset", p) for p in front["baselines"] if p["trial"] not in taken and p["schedule"]["stages"])
    yield from (("control", c) for c in front["controls"])
