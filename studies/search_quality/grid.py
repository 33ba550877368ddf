"""The two grids whose every schedule is measured: the space of the first studies, and all that the model can run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoprune.schedule import Criterion, Keep, Schedule, Stage, parse_criterion

KEEP = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Method:
    """How a stage selects.

    Attributes:
        criterion: Which tokens stay.
        merge: Whether the others are averaged into them.
    """

    criterion: Criterion
    merge: bool = False

    def stage(self, layer: int, keep: float) -> Stage:
        """The stage before a layer that keeps a share of the original visual tokens."""
        merge = "mean" if self.merge else None
        return Stage(layer=layer, keep=Keep(ratio=keep), criterion=self.criterion, merge=merge)


@dataclass(frozen=True)
class Grid:
    """All schedules of one and two stages over some layers, keeps and methods.

    A second stage is deeper and keeps less than the first; nothing follows a withdrawal (keep 0).

    Attributes:
        layers: Layers that a stage may stand before, increasing.
        keep: Shares of the original visual tokens, increasing; 0 is a withdrawal.
        methods: Ways to select.
    """

    layers: tuple[int, ...]
    keep: tuple[float, ...]
    methods: tuple[Method, ...]

    def families(self) -> Iterator[tuple[Schedule, ...]]:
        """The schedules, together where they share the first stage: the first of each family has no other."""
        for first in self._stages(self.layers, self.keep):
            deeper = [layer for layer in self.layers if layer > first.layer]
            ratio = first.keep.ratio or 0.0
            seconds = self._stages(deeper, [keep for keep in self.keep if keep < ratio])
            yield (Schedule(stages=(first,)), *(Schedule(stages=(first, second)) for second in seconds))

    def schedules(self) -> list[Schedule]:
        """All schedules, family by family."""
        return [schedule for family in self.families() for schedule in family]

    def _stages(self, layers: tuple[int, ...] | list[int], keeps: tuple[float, ...] | list[float]) -> Iterator[Stage]:
        for layer in layers:
            for keep in keeps:
                if keep == 0:
                    yield Stage(layer=layer, keep=Keep(ratio=0.0))
                    continue
                for method in self.methods:
                    if method.criterion.problem_at(layer) is None:
                        yield method.stage(layer, keep)


def _methods(*names: str) -> tuple[Method, ...]:
    return tuple(Method(parse_criterion(name)) for name in names)


GRIDS = {
    "old": Grid(tuple(range(1, 12)), KEEP, _methods("last", "text", "visual")),
    "whole": Grid(
        (0, 1, 2, 3, 4, 6, 8, 10),
        KEEP,
        (
            *_methods("last", "text", "visual", "all", "diversity", "encoder"),
            Method(parse_criterion("encoder"), merge=True),
        ),
    ),
}
"""`old`: attention of three sets of rows from layer 1 on, 8,624 schedules; `whole`: seven methods, 18,968 schedules."""
