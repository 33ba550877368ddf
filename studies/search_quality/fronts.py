"""What a set of measured schedules is worth: its hypervolume, and its cheapest point within a loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from verdicts import Table

from autoprune.search.pareto import hypervolume

USEFUL = 0.1
"""Losses up to this are useful: 10 points."""
DROPS = (0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Worth:
    """What a user has from some measured schedules.

    Attributes:
        full: Hypervolume above accuracy 0.
        useful: Hypervolume where at most 10 points are lost.
        cheapest: For each of `DROPS`, the lowest FLOPs ratio of a schedule that loses at most so much; 1, the dense
            model, if none does.
    """

    full: float
    useful: float
    cheapest: tuple[float, ...]


def worth(table: Table, places: Sequence[int]) -> Worth:
    """Of some schedules of a table."""
    chosen = list(places)
    return worth_of(table.ratios[chosen], table.verdicts[chosen], table.dense)


def presets_alone(table: Table) -> Worth:
    """Of the published methods."""
    verdicts = np.array([preset.verdicts for preset in table.presets])
    return worth_of(np.array([preset.flops for preset in table.presets]), verdicts, table.dense)


def worth_of(flops: NDArray[np.float64], verdicts: NDArray[np.bool_], dense: NDArray[np.bool_]) -> Worth:
    """Of schedules with these FLOPs ratios [n] and verdicts [n, rows], beside the verdicts of dense [rows]."""
    right = verdicts.sum(1)
    lost = dense.sum() - right
    points = list(zip(flops.tolist(), (lost / len(dense)).tolist(), strict=True))
    return Worth(
        hypervolume(points, (1.0, float(dense.mean()))),
        hypervolume(points, (1.0, USEFUL)),
        tuple(float(flops[lost <= drop * len(dense)].min(initial=1.0)) for drop in DROPS),
    )
