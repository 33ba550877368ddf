"""Criterion ``encoder``: attention inside the vision tower."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from autoprune.schedule.criteria.declaration import COUNTS, Color, Criterion, KeepKind, Reads


class EncoderCriterion(Criterion):
    """Attention inside the vision tower (VisionZip, CVPR 2025): the CLS row, else the mean received."""

    name: Literal["encoder"] = "encoder"

    source: ClassVar[str] = "VisionZip, CVPR 2025, section 3.2"
    short_names: ClassVar[dict[str, dict[str, Any]]] = {"encoder": {"name": "encoder"}}

    @property
    def reads(self) -> Reads:
        """The vision tower."""
        return Reads.TOWER

    @property
    def keep_kinds(self) -> frozenset[KeepKind]:
        """All rules."""
        return frozenset({*COUNTS, "mass", "threshold"})

    @property
    def color(self) -> Color:
        """Crimson."""
        return Color("#b0396b", "#e57fa8")

    @property
    def phrase(self) -> str:
        """Whose attention decides."""
        return "attention in the vision tower"
