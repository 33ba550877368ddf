"""Criterion ``random``: chance, the control arm."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from autoprune.schedule.criteria.declaration import Color, Criterion, Reads
from autoprune.schedule.validation import Int


class RandomCriterion(Criterion):
    """Random choice, the same for a sample whatever batch it is in: the control arm."""

    name: Literal["random"] = "random"
    seed: Annotated[Int, Field(ge=0, lt=2**63)] = 0

    source: ClassVar[str] = "control arm"
    short_names: ClassVar[dict[str, dict[str, Any]]] = {"random": {"name": "random"}}

    @property
    def reads(self) -> Reads:
        """Nothing."""
        return Reads.NOTHING

    @property
    def color(self) -> Color:
        """Grey."""
        return Color("#8b9099", "#8b9099")

    @property
    def phrase(self) -> str:
        """What decides."""
        return "random choice"
