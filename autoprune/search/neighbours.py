"""Schedules that differ from another one in a single choice."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from autoprune.schedule import Stage
from autoprune.search.chains import StageGroup

Stages = tuple[Stage, ...]
Choices = Mapping[int, Sequence[StageGroup]]
"""Groups of stages by layer, in the order of the layers; within a layer in the order of what they leave."""


def changed(stages: Stages, choices: Choices) -> Iterator[Stages]:
    """The same stages with one left out, moved to the next layer, of the next size, or by another method.

    Some may break the order of shares that a space demands.
    """
    for i, stage in enumerate(stages):
        before, after = stages[:i], stages[i + 1 :]
        yield (*before, *after)
        for other in _others(stage, choices):
            if all(other.layer != s.layer for s in (*before, *after)):
                yield (*before, other, *after)


def longer(stages: Stages, choices: Choices, rng: np.random.Generator, attempts: int) -> Iterator[Stages]:
    """The same stages and one more, drawn at random."""
    layers = [layer for layer in choices if all(layer != s.layer for s in stages)]
    for _ in range(attempts if layers else 0):
        groups = choices[layers[int(rng.integers(len(layers)))]]
        group = groups[int(rng.integers(len(groups)))]
        added = group.stages[int(rng.integers(len(group.stages)))]
        yield tuple(sorted((*stages, added), key=lambda stage: stage.layer))


def _others(stage: Stage, choices: Choices) -> Iterator[Stage]:
    """Stages one step away from a stage."""
    layers = list(choices)
    place = layers.index(stage.layer)
    for layer in layers[max(place - 1, 0) : place] + layers[place + 1 : place + 2]:
        yield stage.model_copy(update={"layer": layer})
    groups = choices[stage.layer]
    own = next(n for n, group in enumerate(groups) if stage in group.stages)
    yield from (s for s in groups[own].stages if s != stage)
    for group in (*groups[max(own - 1, 0) : own], *groups[own + 1 : own + 2]):
        same = [s for s in group.stages if (s.criterion, s.merge) == (stage.criterion, stage.merge)]
        yield from same or group.stages
