"""The search space: the schedules that a study may try on one model.

Layers increase from stage to stage, shares of the original tokens shrink, a method stands only where it can serve, and
before a layer that none can serve a stage withdraws.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from autoprune.errors import StudyError
from autoprune.schedule import Criterion, Keep, Schedule, Stage
from autoprune.search.chains import Chains, StageGroup
from autoprune.search.encoding import Encoding, Suggests
from autoprune.search.methods import LeftOut, Method, methods_of
from autoprune.search.neighbours import changed, longer
from autoprune.search.sections import Space

_ADDED = 16


@dataclass(frozen=True)
class SearchSpace:
    """The space of one study on one model.

    Attributes:
        layers: Layers that a stage may stand before, increasing. A method can serve each of them, or `keep` holds 0.
        keep: Shares of the original visual tokens, increasing; 0 withdraws.
        methods: Selection methods by their label.
        max_stages: Most stages of a schedule.
        mass: Shares of the score that a stage may keep instead, increasing, by methods that allow it.
        left_out: Criteria that this model cannot run, with the reason.
    """

    layers: tuple[int, ...]
    keep: tuple[float, ...]
    methods: Mapping[str, Method]
    max_stages: int
    mass: tuple[float, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @classmethod
    def of(
        cls,
        space: Space,
        num_layers: int,
        refused: Mapping[str, str] | None = None,
        blind: frozenset[int] = frozenset(),
    ) -> SearchSpace:
        """The space that a study file describes.

        Args:
            space: The section of the file. ``layers: all`` = from the first layer that a method can serve; deeper ones
                that none can serve are for withdrawals.
            num_layers: Decoder layers of the model.
            refused: Reasons by label, of criteria that the model cannot run.
            blind: Layers of the model that have no attention to read.

        Raises:
            StudyError: the file names a criterion that the model cannot run, or the model can run none.
        """
        reasons = refused or {}
        able = [c for c in space.all_criteria if c.label not in reasons]
        left_out = tuple(LeftOut(c.label, reasons[c.label]) for c in space.all_criteria if c.label in reasons)
        if lost := [c.label for c in space.named_criteria if c.label in reasons]:
            problem = f"cannot be used with this model: {reasons[lost[0]]}"
            raise StudyError(problem, field="space.criteria", value=lost[0], remedy="leave it out")
        methods = methods_of(able, space.merges, blind)
        layers = tuple(sorted(space.layers)) if space.layers != "all" else tuple(range(num_layers))
        served = [k for k in layers if any(m.serves(k) for m in methods.values())]
        if not served and set(space.keep) != {0.0}:
            raise StudyError(
                "read attention that no layer of this model before those of `space.layers` has",
                field="space.criteria",
                value=", ".join(c.label for c in able),
                remedy="add diversity, or other layers",
            )
        if 0.0 not in space.keep:
            layers = tuple(served)
        elif space.layers == "all":
            layers = tuple(range(served[0] if served else 0, num_layers))
        return cls(layers, tuple(sorted(space.keep)), methods, space.max_stages, tuple(sorted(space.mass)), left_out)

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """The criteria of the methods."""
        return tuple(dict.fromkeys(m.criterion for m in self.methods.values()))

    def labels_at(self, layer: int) -> tuple[str, ...]:
        """Labels of the methods that can serve a stage before this layer."""
        return tuple(label for label, method in self.methods.items() if method.serves(layer))

    def size(self) -> int:
        """Number of distinct schedules."""
        return self._chains.count()

    def schedules(self) -> Iterator[Schedule]:
        """All of them, in a fixed order: those with fewer stages first."""
        return (Schedule(stages=stages) for stages in self._chains.all())

    def draw(self, rng: np.random.Generator) -> Schedule:
        """A number of stages at random, then one of the schedules with so many, each as likely as the others."""
        return Schedule(stages=self._chains.draw(rng))

    def neighbours(self, schedule: Schedule, rng: np.random.Generator) -> Iterator[Schedule]:
        """Schedules of the space that differ in one stage, in random order; none of one that the space does not hold.

        All with a stage left out, moved to the next layer, of the next size or by another method, and 16 at random of
        those with one stage more.
        """
        if not self.holds(schedule):
            return
        stages = _plain(schedule)
        found = [s for s in changed(stages, self._choices) if self._chains.holds(s)]
        more = (s for s in longer(stages, self._choices, rng, 4 * _ADDED) if self._chains.holds(s))
        found += list(itertools.islice(dict.fromkeys(more), _ADDED))
        yield from (Schedule(stages=found[i]) for i in rng.permutation(len(found)))

    def holds(self, schedule: Schedule) -> bool:
        """Whether the space has a schedule that prunes like this one."""
        return schedule.positions == "keep" and self._chains.holds(_plain(schedule))

    def suggest(self, trial: Suggests) -> Schedule:
        """The schedule of one draw of a sampler."""
        return Schedule(stages=self._encoding.suggest(trial))

    def params(self, schedule: Schedule) -> dict[str, Any] | None:
        """A draw that gives a schedule which prunes like this one, or None if the space does not hold it."""
        return self._encoding.params(_plain(schedule), schedule.key) if self.holds(schedule) else None

    @cached_property
    def _encoding(self) -> Encoding:
        return Encoding(self.layers, self.keep, self.methods, self.max_stages, self.mass)

    @cached_property
    def _choices(self) -> dict[int, tuple[StageGroup, ...]]:
        return {layer: tuple(self._groups(layer)) for layer in self.layers}

    @cached_property
    def _chains(self) -> Chains:
        return Chains(list(self._choices.values()), len(self.keep), self.max_stages)

    def _groups(self, layer: int) -> Iterator[StageGroup]:
        methods = [self.methods[label] for label in self.labels_at(layer)]
        for level, share in enumerate(self.keep):
            if share == 0:
                yield StageGroup((Stage(layer=layer, keep=Keep(ratio=0.0)),), level, ends=True)
            elif methods:
                yield StageGroup(tuple(m.stage(layer, Keep(ratio=share)) for m in methods), level)
        for share in self.mass:
            if able := [m for m in methods if m.serves_mass]:
                yield StageGroup(tuple(m.stage(layer, Keep(mass=share)) for m in able), None)


def _plain(schedule: Schedule) -> tuple[Stage, ...]:
    """What its stages do, without stages that keep everything and criteria that choose nothing."""
    pruning = (stage for stage in schedule.stages if stage.keep.ratio != 1)
    return tuple(stage if stage.selects else Stage(layer=stage.layer, keep=stage.keep) for stage in pruning)
