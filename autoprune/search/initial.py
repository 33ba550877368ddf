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

_PROBES = 40
_PROBED_SHARES = 0.05, 0.2

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


def without_a_draw(trials: int, initial: int) -> str | None:
    """Why the sampler of a study proposes nothing; None if it does.

    Args:
        trials: Distinct candidates that the study allows.
        initial: Initial schedules, which come first.
    """
    if trials > initial:
        return None
    return (
        f"search.trials is {trials}, and {initial} initial schedules come first: the sampler proposes nothing; set "
        f"search.trials above {initial}"
    )


def _sweep(num_layers: int) -> Iterator[InitialSchedule]:
    for layer in range(num_layers):
        yield InitialSchedule("", "sweep", Schedule(stages=(Stage(layer=layer, keep=Keep(ratio=0.0)),)))


def _probes(space: SearchSpace) -> Iterator[InitialSchedule]:
    """At most `_PROBES` single stages over the whole space: every method at its first layer, then at others.

    Methods that merge are probed once, at their first layer and the small share, where what is dropped weighs most.
    """
    shares = [share for share in space.keep if share > 0]
    if not shares:
        return
    small, large = (Keep(ratio=min(shares, key=lambda share: abs(share - wanted))) for wanted in _PROBED_SHARES)
    depth = space.layers[-1] + 1
    first, third, thirds = 0, depth // 3, 2 * depth // 3
    plain = [method for method in space.methods.values() if not method.merge]
    merging = [method for method in space.methods.values() if method.merge]
    places = [(small, first), (large, first), (small, third), (large, third)]
    wanted = [(m, keep, layer) for keep, layer in places[:1] for m in (*plain, *merging)]
    wanted += [(m, Keep(mass=share), third) for share in space.mass for m in plain if m.serves_mass]
    places = [*places[1:], (large, 1), (small, 2), (large, thirds), (small, 1), (large, 2), (small, thirds)]
    wanted += [(m, keep, layer) for keep, layer in places for m in plain or merging]
    found: dict[Stage, None] = {}
    for method, keep, near in wanted:
        served = [layer for layer in space.layers if method.serves(layer)]
        if served:
            found.setdefault(method.stage(min(served, key=lambda layer: abs(layer - near)), keep))
    for stage in list(found)[:_PROBES]:
        yield InitialSchedule("", "probe", Schedule(stages=(stage,)))
