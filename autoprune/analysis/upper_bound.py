"""How large a mean may still be, when a few samples carry most of it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from autoprune.errors import DataError

CONFIDENCE = 0.975
LEAST_GROUPS = 4
"""With fewer, too many resamples hold one group alone, which has no spread."""
_RESAMPLES = 2000


def upper_bounds(values: ArrayLike, groups: Sequence[Hashable], seed: int = 0) -> NDArray[np.float64]:
    """Upper 97.5 % bounds of means over samples, by the studentized bootstrap over groups (Hall 1988).

    Divergences are small for most samples and large for a few. A plain bootstrap of their mean stops too low, as a
    resample without the few has both a low mean and next to no spread; here each resample is judged by its own spread.

    Args:
        values: [n, ...], one entry per sample.
        groups: Cluster of each sample.
        seed: Of the resampling.

    Returns:
        Bounds of the shape of one sample's entry; infinite where the data allow none.

    Raises:
        DataError: fewer than four groups.
    """
    check_groups(groups)
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups])
    table = np.asarray(values, dtype=float)
    flat = table.reshape(len(table), -1)
    count = len(numbers)
    sums = np.zeros((count, flat.shape[1]))
    np.add.at(sums, index, flat)
    sizes = np.bincount(index).astype(float)[:, None]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
    mean, error = _mean_and_error(np.ones((1, count)), sums, sizes)
    means, errors = _mean_and_error(drawn.astype(float), sums, sizes)
    off = means - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, off / errors, np.where(off < 0, -np.inf, 0.0))
    lowest = np.quantile(t, 1 - CONFIDENCE, axis=0, method="lower")
    with np.errstate(invalid="ignore"):
        bounds: NDArray[np.float64] = np.where(error[0] > 0, mean[0] - lowest * error[0], mean[0])
    return bounds.reshape(table.shape[1:])


def check_groups(groups: Sequence[Hashable]) -> None:
    """Refuse samples from which no bound can be told.

    Raises:
        DataError: they are of fewer than four groups.
    """
    if len(set(groups)) < LEAST_GROUPS:
        raise DataError(
            f"a bound needs samples of at least {LEAST_GROUPS} groups",
            field="samples",
            value=len(groups),
            remedy="give more rows; rows of one image, or of one `group`, count as one",
        )


def _mean_and_error(
    drawn: NDArray[np.float64], sums: NDArray[np.float64], sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means [R, q] of resamples, and their standard errors, linearised for clusters of different size."""
    total, count = drawn @ sizes, len(sizes)
    means = (drawn @ sums) / total
    squares = drawn @ sums**2 - 2 * means * (drawn @ (sums * sizes)) + means**2 * (drawn @ sizes**2)
    # What is left by cancellation is no spread.
    squares = np.where(squares > 1e-12 * (drawn @ sums**2), squares, 0.0)
    return means, np.sqrt(count / (count - 1) * squares) / total
