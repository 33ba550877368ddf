"""The content of ``front.json`` (contract of a study's output): every key that a point has."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from autoprune.evaluate.results import Summary


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Point(Summary):
    """A schedule with its figures: on calibration at the top, held-out under `validation`."""

    trial: int | None
    name: str
    schedule: dict[str, Any]
    validation: Summary | None = None
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
