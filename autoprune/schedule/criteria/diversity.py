"""Criterion ``diversity``: tokens that are unlike each other."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from autoprune.schedule.criteria.declaration import Color, Criterion, Reads


class DiversityCriterion(Criterion):
    """Max-min cosine distance, chosen greedily farthest first (DivPrune, CVPR 2025)."""

    name: Literal["diversity"] = "diversity"

    source: ClassVar[str] = "DivPrune, CVPR 2025, section 3"
    short_names: ClassVar[dict[str, dict[str, Any]]] = {"diversity": {"name": "diversity"}}

    @property
    def reads(self) -> Reads:
        """The hidden states that enter the stage's layer."""
        return Reads.STATES

    @property
    def color(self) -> Color:
        """Brick red."""
        return Color("#b23a2e", "#ef8a7d")

    @property
    def phrase(self) -> str:
        """What decides."""
        return "diversity"
