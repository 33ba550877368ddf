"""Selection methods: a criterion, with or without merging of what it drops; and which of them a model leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from autoprune.schedule import Criterion, Keep, Stage, parse_criterion
from autoprune.schedule.criteria import SHORT_NAMES, Reads


class LeftOut(NamedTuple):
    """Something that a study could have tried on another model, or with another file.

    Attributes:
        what: For people: ``encoder``, ``preset fitprune``.
        why: One sentence, with the remedy if there is one.
    """

    what: str
    why: str


@dataclass(frozen=True)
class Method:
    """How a stage that keeps a part of the tokens chooses them, and what becomes of the others.

    Attributes:
        criterion: Which tokens stay.
        merge: Whether the dropped ones are averaged into those that they are most like.
        blind: Layers of the model that have no attention to read.
    """

    criterion: Criterion
    merge: bool = False
    blind: frozenset[int] = frozenset()

    @property
    def label(self) -> str:
        """A short name: ``text``, ``encoder + merge``."""
        return f"{self.criterion.label} + merge" if self.merge else self.criterion.label

    @property
    def serves_mass(self) -> bool:
        """Whether it can keep as many tokens as hold a share of the score."""
        return "mass" in self.criterion.keep_kinds

    def serves(self, layer: int) -> bool:
        """Whether it can stand before this layer."""
        return self.criterion.problem_at(layer) is None and self.criterion.layer_read(layer) not in self.blind

    def stage(self, layer: int, keep: Keep) -> Stage:
        """A stage that keeps a part of the tokens by this method."""
        return Stage(layer=layer, keep=keep, criterion=self.criterion, merge="mean" if self.merge else None)


@cache
def every_criterion() -> tuple[Criterion, ...]:
    """The criteria of this package that need no file and look at the tokens, in the order of the table.

    Those that look at nothing (a random and an even choice) are the control arms of every study.
    """
    named = [parse_criterion(short) for short in SHORT_NAMES]
    return tuple(criterion for criterion in named if criterion.reads is not Reads.NOTHING)


def methods_of(
    criteria: Sequence[Criterion], merge: Sequence[bool], blind: frozenset[int] = frozenset()
) -> dict[str, Method]:
    """All methods of these criteria by their label: each criterion without merging first."""
    made = [Method(criterion, merged, blind) for criterion in criteria for merged in sorted(merge)]
    return {method.label: method for method in made}
