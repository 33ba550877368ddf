"""Initial schedules, tried before any is drawn: published methods, the withdrawal sweep, single-stage probes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoprune import presets
from autoprune.errors import ModelError
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


def baseline(name: str, num_layers: int, config: Any = None, folder: str | os.PathLike[str] = ".") -> InitialSchedule:
    """A preset, or a schedule file; one that was made for another model is mapped by relative depth.

    Args:
        name: Name of a preset, or path of the file.
        num_layers: Decoder layers of the model.
        config: The model's config; None = do not ask whether the file fits it.
        folder: Where a relative path starts.

    Raises:
        ScheduleError: neither a preset nor a file, or the model is too shallow for it.
        ModelError: a layer of a file that names no model is out of range.
    """
    schedule = presets.resolve(name, num_layers, folder)
    if config is not None:
        try:
            schedule.check_model(config)
        except ModelError:
            if schedule.model is None:
                raise
            schedule = presets.mapped(schedule, num_layers)
    return InitialSchedule(name if name in presets.NAMES else Path(name).stem, "baseline", schedule)


def initial_schedules(
    baselines: Sequence[InitialSchedule], space: SearchSpace, num_layers: int
) -> list[InitialSchedule]:
    """All initial schedules, baselines first; of two that prune alike the first stays."""
    by_key: dict[str, InitialSchedule] = {}
    for initial in (*baselines, *_sweep(num_layers), *_probes(space)):
        if initial.schedule.stages:  # dense is measured anyway, as the reference
            by_key.setdefault(initial.schedule.key, initial)
    return list(by_key.values())


def _sweep(num_layers: int) -> Iterator[InitialSchedule]:
    for layer in range(num_layers):
        yield InitialSchedule("", "sweep", Schedule(stages=(Stage(layer=layer, keep=Keep(ratio=0.0)),)))


def _probes(space: SearchSpace) -> Iterator[InitialSchedule]:
    """Every method at a quarter and at half of the depth, or nearest to it, at a small and at a middle keep."""
    shares = [keep for keep in space.keep if keep > 0]
    depths = dict.fromkeys((space.layers[len(space.layers) // 4], space.layers[len(space.layers) // 2]))
    for keep in dict.fromkeys((shares[len(shares) // 2], shares[len(shares) // 4])) if shares else ():
        for depth in depths:
            for method in space.methods.values():
                served = [layer for layer in space.layers if method.serves(layer)]
                if served:
                    layer = min(served, key=lambda served_layer: abs(served_layer - depth))
                    yield InitialSchedule("", "probe", Schedule(stages=(method.stage(layer, Keep(ratio=keep)),)))
