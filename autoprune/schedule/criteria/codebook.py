"""Criterion ``codebook``: distance to prototypes of redundant visual tokens."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from autoprune.schedule.criteria.declaration import COUNTS, Color, Criterion, KeepKind, Reads
from autoprune.schedule.files import real_path
from autoprune.schedule.validation import Int


class CodebookCriterion(Criterion):
    """Distance to a codebook of redundant prototypes (arXiv 2503.20540): score = -max cosine.

    Attributes:
        path: The codebook, a safetensors file.
        sha256: Digest of that file, in hex.
        prototypes: How many it holds; its price depends on them.
    """

    name: Literal["codebook"] = "codebook"
    path: str
    sha256: str
    prototypes: Annotated[Int, Field(ge=1)] | None = None

    source: ClassVar[str] = "Beyond Intermediate States, arXiv 2503.20540, section 4"
    short_names: ClassVar[dict[str, dict[str, Any]]] = {}

    @property
    def reads(self) -> Reads:
        """The hidden states that enter the decoder."""
        return Reads.STATES

    @property
    def keep_kinds(self) -> frozenset[KeepKind]:
        """All rules but `mass`: cosines are no shares."""
        return frozenset({*COUNTS, "threshold"})

    @property
    def color(self) -> Color:
        """Brown."""
        return Color("#7a5230", "#c99b73")

    @property
    def phrase(self) -> str:
        """What decides."""
        return "redundancy codebook"

    def _worded(self) -> dict[str, Any]:
        return {}

    def problem_at(self, layer: int) -> str | None:
        """Prototypes are tokens as they enter the decoder, not deeper states."""
        if layer == 0:
            return None
        return "a codebook is compared with the tokens that enter the decoder: use it before layer 0"

    def from_folder(self, folder: Path) -> Self:
        """The codebook file taken from a folder."""
        return self.model_copy(update={"path": str(real_path(folder / os.path.expanduser(self.path)))})

    def found_in(self, folder: Path) -> Self:
        """The codebook file taken from a folder, if it is there and not where its path leads."""
        moved = self.from_folder(folder)
        return moved if not os.path.exists(self.path) and os.path.exists(moved.path) else self
