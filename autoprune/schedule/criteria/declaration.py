"""The declaration of a criterion: its options, and what the rest of the package must know about it, without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self

from autoprune.schedule.validation import Part

KeepKind = Literal["ratio", "count", "mass", "threshold"]
COUNTS: frozenset[KeepKind] = frozenset({"ratio", "count"})
"""Keep rules whose number of tokens does not depend on scores: every criterion takes them."""


class Reads(StrEnum):
    """Source of the scores of a criterion."""

    LAYER_BEFORE = "layer before"
    """Query and key of the decoder layer before the stage, as that layer runs."""
    LAYER_ITSELF = "layer itself"
    """Query and key of the stage's own layer, computed before it runs."""
    TOWER = "vision tower"
    """Attention inside the vision tower, as images are encoded."""
    STATES = "hidden states"
    """Hidden states that enter the stage's layer."""
    NOTHING = "nothing"
    """Only which tokens are alive."""


class Color(NamedTuple):
    """A colour as hex, on a light and on a dark page."""

    light: str
    dark: str


class Criterion(Part):
    """A criterion: how the visual tokens that stay are told from those that leave.

    A subclass declares one criterion: fields are its options as saved in a schedule; the class attributes and
    properties below say what holds for it. Its behaviour (scores from tensors, multiply-adds from numbers) stands in
    ``autoprune.runtime.criteria``, in the file of the same name.

    Attributes:
        name: Name in a schedule.
        source: Paper, venue and section.
        short_names: Short names in study files, with the options that each stands for.
    """

    name: str

    source: ClassVar[str]
    short_names: ClassVar[dict[str, dict[str, Any]]]

    @property
    def reads(self) -> Reads:
        """Source of its scores."""
        raise NotImplementedError  # each criterion declares its own

    @property
    def color(self) -> Color:
        """Its colour in plots."""
        raise NotImplementedError  # each criterion declares its own

    @property
    def phrase(self) -> str:
        """What decides, in words, without options."""
        raise NotImplementedError  # each criterion declares its own

    @property
    def keep_kinds(self) -> frozenset[KeepKind]:
        """The keep rules that it can serve."""
        return COUNTS

    @property
    def recordable(self) -> bool:
        """Whether one dense pass holds its scores for a first stage at any layer, whatever that stage keeps."""
        return self.reads in (Reads.LAYER_BEFORE, Reads.TOWER)

    @property
    def family(self) -> str:
        """A short name without options, for figures."""
        return self.name

    @property
    def asks_raters(self) -> bool:
        """Whether it needs to know which words match the image."""
        return False

    def layer_read(self, layer: int) -> int | None:
        """The decoder layer whose attention it reads for a stage before `layer`; None if it reads no layer's."""
        return {Reads.LAYER_BEFORE: layer - 1, Reads.LAYER_ITSELF: layer}.get(self.reads)

    def problem_at(self, layer: int) -> str | None:
        """Why it cannot serve a stage before this layer, with the remedy; None if it can."""
        if layer == 0 and self.reads is Reads.LAYER_BEFORE:
            return "there is no layer before layer 0 to read attention from: use layer 1 or deeper"
        return None

    @property
    def options(self) -> dict[str, Any]:
        """The options that differ from their default."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"name"})

    def to_json_dict(self) -> dict[str, Any]:
        """The criterion as saved: its name, and the options that differ from their default."""
        return {"name": self.name, **self.model_dump(mode="json", exclude_defaults=True)}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that its choice depends on, for `Schedule.key`: name and options, defaults spelled out."""
        return self.model_dump(mode="json", exclude_none=True)

    @property
    def label(self) -> str:
        """A short name that tells criteria with different options apart: ``random seed=3``."""
        return labelled(self.name, self.options)

    @property
    def words(self) -> str:
        """What decides, in words, with the options that differ from the default."""
        options = [f"{k} {v}" for k, v in self._worded().items()]
        return f"{self.phrase} ({', '.join(options)})" if options else self.phrase

    def _worded(self) -> dict[str, Any]:
        """Options that `words` lists behind the phrase."""
        return self.options

    def from_folder(self, folder: Path) -> Self:
        """The same criterion, with the paths among its options taken from a folder."""
        return self

    def found_in(self, folder: Path) -> Self:
        """The same criterion, with paths that lead nowhere taken from a folder if they lead somewhere there."""
        return self


def labelled(name: str, options: Mapping[str, Any]) -> str:
    """A name with options: ``text at=current``."""
    return " ".join([name, *(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in options.items())])
