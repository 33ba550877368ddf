"""Criterion ``uniform``: even spacing, the control arm without chance."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from autoprune.schedule.criteria.declaration import Color, Criterion, Reads


class UniformCriterion(Criterion):
    """Evenly spaced tokens: the control arm without chance."""

    name: Literal["uniform"] = "uniform"

    source: ClassVar[str] = "control arm"
    short_names: ClassVar[dict[str, dict[str, Any]]] = {"uniform": {"name": "uniform"}}

    @property
    def reads(self) -> Reads:
        """Nothing."""
        return Reads.NOTHING

    @property
    def color(self) -> Color:
        """Dark grey."""
        return Color("#5d636d", "#a9afb8")

    @property
    def phrase(self) -> str:
        """What decides."""
        return "even spacing"
