"""What a set of measured schedules is worth: its hypervolume, and its cheapest point within a loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from verdicts import Table

USEFUL = 0.1
"""Losses up to this are useful: 10 points."""
DROPS = (0.01, 0.02, 0.05)


def hypervolume(flops: NDArray[np.float64], accuracy: NDArray[np.float64], floor: float) -> float:
    """Area that points dominate, up to the FLOPs of the dense model (ratio 1) and down to an accuracy.

    Args:
        flops: FLOPs ratio of each point.
        accuracy: Accuracy of each point.
        floor: Accuracy of the reference point.
    """
    order = np.lexsort((-accuracy, flops))
    flops, accuracy = flops[order], accuracy[order]
    best = np.maximum.accumulate(np.maximum(accuracy - floor, 0.0))
    inside = flops < 1
    edges = np.append(flops[inside], 1.0)
    return float((np.diff(edges) * best[inside]).sum())


def full(table: Table, places: Sequence[int]) -> float:
    """Hypervolume of some schedules of a table above accuracy 0."""
    return hypervolume(table.ratios[list(places)], table.accuracy[list(places)], 0.0)


def useful(table: Table, places: Sequence[int]) -> float:
    """Hypervolume of some schedules of a table where at most 10 points are lost."""
    return hypervolume(table.ratios[list(places)], table.accuracy[list(places)], table.dense_accuracy - USEFUL)


def cheapest(table: Table, places: Sequence[int], drop: float) -> float:
    """Lowest FLOPs ratio among schedules of a table that lose at most this; 1, the dense model, if none does."""
    lost = table.dense.sum() - table.verdicts[list(places)].sum(1)  # whole rows: no rounding
    within = table.ratios[list(places)][lost <= drop * table.rows + 1e-9]
    return float(within.min(initial=1.0))
