"""A table without a model: those schedules that keep more, and later, answer more rows."""

from __future__ import annotations

import numpy as np
from grid import space_of
from verdicts import Preset, Table

from autoprune.schedule import Schedule, parse_criterion
from autoprune.search.methods import Method

ROWS, VISUAL, LAYERS = 32, 100, 8


def synthetic_table(layers: int = LAYERS) -> Table:
    """A space of one and two stages before the first layers; schedules that keep more, and later, answer more rows."""
    methods = [Method(parse_criterion(name)) for name in ("text", "diversity")]
    space = space_of(range(1, layers), (0.0, 0.1, 0.5), methods)
    schedules = tuple(space.schedules())
    kept = np.array([_alive(schedule) for schedule in schedules])
    hardness = np.linspace(0, 1, ROWS)
    verdicts = np.array([_skill(schedule) for schedule in schedules])[:, None] > hardness
    dense = np.ones(ROWS, bool)
    presets = (Preset("vtw", schedules[0], verdicts[0], float(kept[0])),)
    return Table(
        space, schedules, verdicts, (kept * 10**6).astype(np.int64), dense, 10**6, ("a", "b") * (ROWS // 2),
        tuple(str(row // 2) for row in range(ROWS)), presets, LAYERS, VISUAL, {"data": "synthetic", "model": "none"},
    )  # fmt: skip


def _alive(schedule: Schedule) -> float:
    """Mean share of the tokens over the layers."""
    shares = np.ones(LAYERS)
    for stage in schedule.stages:
        shares[stage.layer :] = stage.keep.value
    return float(0.1 + 0.9 * shares.mean())


def _skill(schedule: Schedule) -> float:
    bonus = 0.15 * sum(stage.criterion is not None and stage.criterion.name == "diversity" for stage in schedule.stages)
    return min(1.01, _alive(schedule) ** 0.5 + bonus)
