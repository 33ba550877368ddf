"""Made-up losses of a front of schedules on rows in groups, with the drops that they truly have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

FLOPS = np.array([0.80, 0.70, 0.60, 0.54, 0.50, 0.46, 0.43, 0.40, 0.36, 0.33, 0.30, 0.25, 0.22, 0.16])
DROPS = np.interp(
    FLOPS, [0.16, 0.22, 0.25, 0.30, 0.40, 0.54, 0.58, 0.65, 0.8], [0.2, 0.13, 0.1, 0.05, 0.015, 0.005, 0.005, 0.001, 0]
)
"""A front near dense: many schedules within a point of each other, then a steep fall."""


def front_losses(
    rng: np.random.Generator, groups: int, size: int = 2, drops: NDArray[np.float64] = DROPS, alike: float = 0.3
) -> NDArray[np.float64]:
    """Losses [rows, schedules] of 1, 0 and -1 whose means are `drops`: rows hard for one are hard for all.

    Args:
        rng: Of the rows.
        groups: Number of groups.
        size: Rows of a group.
        drops: What each schedule truly loses.
        alike: Correlation of the rows of a group.
    """
    own, shared = rng.normal(size=(groups, size)), rng.normal(size=(groups, 1))
    hard = (np.sqrt(1 - alike) * own + np.sqrt(alike) * shared).reshape(-1, 1)
    place = norm.cdf(0.8 * hard + 0.6 * rng.normal(size=(groups * size, len(drops))))
    gained = 0.004 + 0.1 * np.maximum(drops, 0)
    return (place < drops + gained).astype(float) - (place > 1 - gained)


def group_names(groups: int, size: int = 2) -> list[int]:
    """Group of each row."""
    return np.repeat(np.arange(groups), size).tolist()
