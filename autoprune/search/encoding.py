"""A fixed set of numbers for every schedule of a space, as samplers that model all parameters jointly want them.

Every parameter is drawn in every trial, whatever the others are. Where parameters exist only under a condition, a
sampler falls back to groups of them that it models independently of each other (Optuna's ``group=True``): then a second
stage would know nothing of the first. The price is that several draws may give one schedule, since a schedule of one
stage leaves those of the others open; they get values at random, so that no sampler reads a meaning into them.

Depths and shares are numbers in [0, 1] that are sorted before use: the first stage takes the lowest layer and the
highest share. So nothing can contradict itself, and the numbers mean the same whatever the stage before is.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from autoprune.schedule import Keep, Stage
from autoprune.search.methods import Method

RATIO = "ratio"
"""The rule of a stage that keeps a share of the original tokens."""


class Suggests(Protocol):
    """Interface of a trial that a space draws from: an Optuna trial, or a `FixedTrial` in tests."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """An integer in [low, high]."""

    def suggest_float(self, name: str, low: float, high: float) -> float:
        """A number in [low, high]."""

    def suggest_categorical(self, name: str, choices: tuple[str, ...]) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class StageDraw:
    """The numbers of one stage.

    Attributes:
        depth: Where it stands, in [0, 1].
        share: How much it keeps, in [0, 1].
        method: Label of the method.
        rule: `RATIO`, or a share of the score.
    """

    depth: float
    share: float
    method: str
    rule: str


@dataclass(frozen=True)
class Encoding:
    """The parameters of a space; the fields are those of `SearchSpace`."""

    layers: tuple[int, ...]
    keep: tuple[float, ...]
    methods: Mapping[str, Method]
    max_stages: int
    mass: tuple[float, ...]

    def suggest(self, trial: Suggests) -> tuple[Stage, ...]:
        """The stages of one draw: as many as are drawn, or the most that are possible with these numbers."""
        count = trial.suggest_int("stages", 1, self.max_stages)
        draws = [self._suggested(trial, number) for number in range(1, self.max_stages + 1)]
        for length in range(min(count, len(self.layers)), 0, -1):
            if stages := self._decoded(draws[:length]):
                return stages
        raise AssertionError("one stage is always possible")

    def params(self, stages: Sequence[Stage], seed: str) -> dict[str, Any]:
        """A draw that gives these stages, which are of the space.

        Args:
            stages: The stages.
            seed: Of the parameters that they leave open.
        """
        rng = random.Random(seed)
        depths = draws_of([self.layers.index(s.layer) for s in stages], len(self.layers))
        free = [i for i, s in enumerate(stages) if s.keep.ratio is not None and self._able(s.layer)]
        least = self._least(len(stages) - 1 in free)
        levels = [self.keep.index(stages[i].keep.value) - least for i in reversed(free)]
        shares = dict(zip(reversed(free), draws_of(levels, len(self.keep) - least), strict=True))
        params: dict[str, Any] = {"stages": len(stages)}
        for i in range(self.max_stages):
            draw = StageDraw(rng.random(), rng.random(), rng.choice(tuple(self.methods)), rng.choice(self._rules))
            if i < len(stages):
                keep, criterion = stages[i].keep, stages[i].criterion
                rule = RATIO if keep.mass is None else str(keep.mass)
                draw = replace(draw, depth=depths[i], share=shares.get(i, draw.share), rule=rule)
                if criterion is not None:
                    draw = replace(draw, method=Method(criterion, stages[i].merge is not None).label)
            params |= self._named(draw, i + 1)
        return params

    @cached_property
    def _rules(self) -> tuple[str, ...]:
        return (RATIO, *map(str, self.mass))

    def _suggested(self, trial: Suggests, number: int) -> StageDraw:
        return StageDraw(
            trial.suggest_float(f"depth_{number}", 0.0, 1.0),
            trial.suggest_float(f"share_{number}", 0.0, 1.0),
            trial.suggest_categorical(f"method_{number}", tuple(self.methods)),
            trial.suggest_categorical(f"rule_{number}", self._rules) if self.mass else RATIO,
        )

    def _named(self, draw: StageDraw, number: int) -> dict[str, Any]:
        named = {f"depth_{number}": draw.depth, f"share_{number}": draw.share, f"method_{number}": draw.method}
        return named | ({f"rule_{number}": draw.rule} if self.mass else {})

    def _decoded(self, draws: Sequence[StageDraw]) -> tuple[Stage, ...]:
        """The stages of these draws; none if so many are not possible."""
        layers = [self.layers[place] for place in increasing([d.depth for d in draws], len(self.layers))]
        methods = [self._method(draw, layer) for draw, layer in zip(draws, layers, strict=True)]
        mass = [draw.rule != RATIO and m is not None and m.serves_mass for draw, m in zip(draws, methods, strict=True)]
        free = [i for i, method in enumerate(methods) if method is not None and not mass[i]]
        least = self._least(len(draws) - 1 in free)
        if None in methods[:-1] or len(free) > len(self.keep) - least:
            return ()
        levels = increasing([draws[i].share for i in free], len(self.keep) - least)
        shares = {i: self.keep[least + level] for i, level in zip(reversed(free), levels, strict=True)}
        stages = []
        for i, (draw, layer, method) in enumerate(zip(draws, layers, methods, strict=True)):
            share = shares.get(i, 0.0)
            if method is not None and mass[i]:
                stages.append(method.stage(layer, Keep(mass=float(draw.rule))))
            elif method is not None and share > 0:
                stages.append(method.stage(layer, Keep(ratio=share)))
            else:
                stages.append(Stage(layer=layer, keep=Keep(ratio=0.0)))
        return tuple(stages)

    def _method(self, draw: StageDraw, layer: int) -> Method | None:
        """The method that is drawn, or one that can serve in its place; None before a layer that none can serve."""
        able = self._able(layer)
        if not able:
            return None
        place = list(self.methods).index(draw.method)
        return self.methods[draw.method if draw.method in able else able[place % len(able)]]

    def _able(self, layer: int) -> list[str]:
        return [label for label, method in self.methods.items() if method.serves(layer)]

    def _least(self, last_is_free: bool) -> int:
        """The lowest share that may be drawn: a withdrawal only for the last stage."""
        return 1 if self.keep[0] == 0 and not last_is_free else 0


def increasing(draws: Sequence[float], count: int) -> list[int]:
    """Strictly increasing places below `count` from numbers in [0, 1], of which there are at most as many."""
    room = count - len(draws) + 1
    return [min(int(share * room), room - 1) + place for place, share in enumerate(sorted(draws))]


def draws_of(places: Sequence[int], count: int) -> list[float]:
    """Numbers in [0, 1] that `increasing` turns into these strictly increasing places."""
    room = count - len(places) + 1
    return [(place - before + 0.5) / room for before, place in enumerate(places)]
