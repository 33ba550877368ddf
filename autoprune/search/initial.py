"""Initial schedules, tried before any is drawn: published methods, the withdrawal sweep, single-stage probes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoprune import presets
from autoprune.schedule import Keep, Schedule, Stage
from autoprune.search.space import SearchSpace

Origin = Literal["baseline", "sweep", "probe", "sampler"]


@dataclass(frozen=True)
class InitialSchedule:
    """A schedule that is tried before any is drawn.

    Attributes:
        name: For people; empty for the sweep and the probes.
        origin: Why it is tried; kept in the database.
    """

    name: str
    origin: Origin
    schedule: Schedule


def initial_schedules(names: Sequence[str], space: SearchSpace, num_layers: int) -> list[InitialSchedule]:
    """All initial schedules, baselines first; of two that prune alike the first stays."""
    by_key: dict[str, InitialSchedule] = {}
    for initial in (*_baselines(names, num_layers), *_sweep(num_layers), *_probes(space)):
        if initial.schedule.stages:  # dense is measured anyway, as the reference
            by_key.setdefault(initial.schedule.key, initial)
    return list(by_key.values())


def baseline_name(name: str) -> str:
    """Name of a baseline for people: the preset's name or the file's."""
    return name if name in presets.NAMES else Path(name).stem


def _baselines(names: Sequence[str], num_layers: int) -> Iterator[InitialSchedule]:
    for name in names:
        yield InitialSchedule(baseline_name(name), "baseline", presets.resolve(name, num_layers))


def _sweep(num_layers: int) -> Iterator[InitialSchedule]:
    for layer in range(num_layers):
        yield InitialSchedule("", "sweep", Schedule(stages=(Stage(layer=layer, keep=Keep(ratio=0.0)),)))


def _probes(space: SearchSpace) -> Iterator[InitialSchedule]:
    """Every criterion at a quarter and at half of the depth, or nearest to it, at a small and at a middle keep."""
    shares = [keep for keep in space.keep if keep > 0]
    depths = dict.fromkeys((space.layers[len(space.layers) // 4], space.layers[len(space.layers) // 2]))
    for keep in dict.fromkeys((shares[len(shares) // 2], shares[len(shares) // 4])) if shares else ():
        for depth in depths:
            for criterion in space.criteria.values():
                served = [layer for layer in space.layers if criterion.problem_at(layer) is None]
                if served:
                    layer = min(served, key=lambda served_layer: abs(served_layer - depth))
                    stage = Stage(layer=layer, keep=Keep(ratio=keep), criterion=criterion)
                    yield InitialSchedule("", "probe", Schedule(stages=(stage,)))
