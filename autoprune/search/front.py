"""The content of ``front.json`` (contract of a study's output): every key that a point has."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from autoprune.evaluate.results import SampleResult, compare, summarise


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TaskMeasures(_Part):
    """Quality on one task; drops are dense - pruned in accuracy, absolute."""

    accuracy: float
    accuracy_ci: tuple[float, float]
    agreement: float
    kl: float
    samples: int
    drop: float | None = None
    drop_ci: tuple[float, float] | None = None
    drop_se: float | None = None


class Measures(_Part):
    """Cost and quality of a schedule on one data set."""

    flops_ratio: float
    flops_ratio_end_to_end: float
    kv_ratio: float
    accuracy: float
    accuracy_ci: tuple[float, float]
    agreement: float
    kl: float
    kl_p90: float
    samples: int
    tasks: dict[str, TaskMeasures]
    drop: float | None = None
    drop_ci: tuple[float, float] | None = None
    drop_se: float | None = None


class Point(Measures):
    """A schedule with its figures: on calibration at the top, held-out under `validation`."""

    trial: int | None
    name: str
    schedule: dict[str, Any]
    validation: Measures | None = None
    latency: dict[str, float | int | None] | None = None


class Control(Point):
    """A control arm of point `of`; it is no trial of its own."""

    of: int


class FrontFile(_Part):
    """What a study found. `study` holds everything that the page tells besides."""

    study: dict[str, Any]
    model: dict[str, Any]
    dense: Point
    points: list[Point]
    baselines: list[Point]
    controls: list[Control]


def measures(dense: list[SampleResult], results: list[SampleResult]) -> Measures:
    """Figures of a schedule, with what it loses against dense on the same samples."""
    figures, drops = summarise(results).to_dict(), compare(dense, results)
    tasks = {name: {**task, **drops["tasks"][name]} for name, task in figures["tasks"].items()}
    overall = {name: drops[name] for name in ("drop", "drop_ci", "drop_se")}
    return Measures.model_validate({**figures, **overall, "tasks": tasks})
