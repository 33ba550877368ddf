"""Means with 95 % intervals: Wilson's for a share, otherwise a bootstrap over groups of dependent samples."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from autoprune.errors import DataError

LEVEL = 0.95
ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
LEAST_GROUPS = 4
"""For an upper bound: with fewer, too many resamples hold one group alone, which has no spread."""
_RESAMPLES = 2000
_Z = float(norm.ppf(ENDS[1]))

T = TypeVar("T")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate(Generic[T]):
    """A mean over samples with its 95 % interval: numbers, arrays, or a curve with one entry for each layer.

    Attributes:
        mean: Mean over samples.
        low: Lower end of the interval.
        high: Upper end.
    """

    mean: T
    low: T
    high: T


Curve = Estimate[list["float | None"]]
"""One entry for each layer; None where a layer has no such figure, or its interval is not known."""


@dataclass(frozen=True)
class PairedDrop(Estimate[float]):
    """Mean of dense - pruned over samples; positive: accuracy was lost.

    Attributes:
        se: Standard error.
    """

    se: float


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, 1927), 95 %.

    Args:
        successes: Number of successes, 0 to `n`.
        n: Number of trials; 0 gives (0, 1): nothing is known.

    Returns:
        (low, high) in [0, 1].
    """
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, _Z**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_drop(
    dense: Sequence[float], pruned: Sequence[float], groups: Sequence[Hashable], seed: int = 0
) -> PairedDrop:
    """Accuracy lost from dense to pruned on the same samples, by a bootstrap over groups.

    Whole groups are drawn with replacement, because samples of one image are not independent. One lost and one gained
    answer are added as two more groups before the spread is taken (Bonett & Price 2012, for paired shares): when next
    to no verdict changes, the plain bootstrap would claim a certainty that the data do not give.

    Args:
        dense: Verdicts of the dense model, in [0, 1], one per sample.
        pruned: Verdicts of the pruned model, in the same order.
        groups: Cluster of each sample.
        seed: Of the resampling.

    Raises:
        ValueError: the lengths differ, or there are no samples.
    """
    if not len(dense) == len(pruned) == len(groups) or not len(dense):
        raise ValueError(f"need as many verdicts as groups, have {len(dense)}, {len(pruned)}, {len(groups)}")
    difference = np.asarray(dense, dtype=float) - np.asarray(pruned, dtype=float)
    mean = float(difference.mean())
    sums, sizes = _cluster_totals(difference, groups)
    sums, sizes = np.append(sums[:, 0], (1.0, -1.0)), np.append(sizes, (1.0, 1.0))
    # Groups of equal sum and size are interchangeable: drawing kinds of groups is the same, and many times faster.
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    spread = (
        _resampled_means(_resamples(counts.astype(float), seed), kinds[:, :1], kinds[:, 1]) - sums.sum() / sizes.sum()
    )
    low, high = np.quantile(spread, ENDS)
    se = _cluster_error(sums, sizes)
    return PairedDrop(mean, max(-1.0, mean + float(low)), min(1.0, mean + float(high)), se)


def clustered_means(values: ArrayLike, groups: Sequence[Hashable], seed: int = 0) -> Estimate[Array]:
    """Means over samples with 95 % intervals, by a bootstrap over groups: whole groups are drawn with replacement.

    Args:
        values: [samples, ...], one figure or many for each sample; NaN where there is none for any sample.
        groups: Cluster of each sample.
        seed: Of the resampling.

    Returns:
        Arrays of the shape of one sample's figures.

    Raises:
        ValueError: there are fewer than two groups, or not one for each sample.
    """
    table = np.asarray(values, dtype=float)
    if len(table) != len(groups) or len(set(groups)) < 2:
        raise ValueError(f"need two groups or more, one for each sample; have {len(set(groups))} for {len(table)}")
    sums, sizes = _cluster_totals(table, groups)
    means = _resampled_means(_resamples(np.ones(len(sizes)), seed), sums, sizes)
    low, high = np.quantile(means, ENDS, axis=0)
    shape = table.shape[1:]
    return Estimate(table.reshape(len(table), -1).mean(0).reshape(shape), low.reshape(shape), high.reshape(shape))


def mean_curve(values: ArrayLike, groups: Sequence[Hashable]) -> Curve:
    """The curve of values [samples, layers] by `clustered_means`; with one group its interval is not known."""
    table = np.asarray(values, dtype=float)
    if len(set(groups)) < 2:
        unknown = np.full(table.shape[1], np.nan)
        return curve(table.mean(0), unknown, unknown)
    found = clustered_means(table, groups)
    return curve(found.mean, found.low, found.high)


def curve(mean: ArrayLike, low: ArrayLike, high: ArrayLike) -> Curve:
    """A curve from numbers [layers], NaN where there is none."""
    ends = (np.asarray(end, dtype=float).tolist() for end in (mean, low, high))
    return Curve(*([None if math.isnan(value) else value for value in end] for end in ends))


def upper_bounds(values: ArrayLike, groups: Sequence[Hashable], seed: int = 0) -> Array:
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
    check_groups(groups, "a bound", LEAST_GROUPS)
    table = np.asarray(values, dtype=float)
    sums, sizes = _cluster_totals(table, groups)
    mean, error = _mean_and_error(np.ones((1, len(sizes))), sums, sizes)
    means, errors = _mean_and_error(_resamples(np.ones(len(sizes)), seed), sums, sizes)
    off = means - mean
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, off / errors, np.where(off < 0, -np.inf, 0.0))
    lowest = np.quantile(t, ENDS[0], axis=0, method="lower")
    with np.errstate(invalid="ignore"):
        bounds: Array = np.where(error[0] > 0, mean[0] - lowest * error[0], mean[0])
    return bounds.reshape(table.shape[1:])


def check_groups(groups: Sequence[Hashable], figure: str = "an interval", least: int = 2) -> None:
    """Refuse samples of too few groups for a figure.

    Raises:
        DataError: they are of fewer than `least` groups.
    """
    found = len(set(groups))
    if found < least:
        raise DataError(
            f"{figure} needs samples of at least {least} groups",
            field="samples",
            value=found,
            remedy="give more rows; rows of one image, or of one `group`, count as one",
        )


def _cluster_totals(values: Array, groups: Sequence[Hashable]) -> tuple[Array, Array]:
    """Sums [G, q] of values [n, ...] over each group, and the number of samples [G] in it."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups])
    flat = values.reshape(len(values), -1)
    sums = np.zeros((len(numbers), flat.shape[1]))
    np.add.at(sums, index, flat)
    return sums, np.bincount(index).astype(float)


def _resamples(counts: Array, seed: int) -> Array:
    """Number of draws of each kind of group, [resamples, G], from the number of groups of each kind, `counts` [G]."""
    total = int(counts.sum())
    return np.random.default_rng(seed).multinomial(total, counts / total, size=_RESAMPLES).astype(float)


def _resampled_means(drawn: Array, sums: Array, sizes: Array) -> Array:
    """Means [resamples, q] over the samples of the groups drawn."""
    means: Array = (drawn @ sums) / (drawn @ sizes)[:, None]
    return means


def _mean_and_error(drawn: Array, sums: Array, sizes: Array) -> tuple[Array, Array]:
    """Means [R, q] of resamples, and their standard errors, linearised for clusters of different size."""
    means, count = _resampled_means(drawn, sums, sizes), len(sizes)
    wide = sizes[:, None]
    squares = drawn @ sums**2 - 2 * means * (drawn @ (sums * wide)) + means**2 * (drawn @ wide**2)
    # What is left by cancellation is no spread.
    squares = np.where(squares > 1e-12 * (drawn @ sums**2), squares, 0.0)
    return means, np.sqrt(count / (count - 1) * squares) / (drawn @ wide)


def _cluster_error(sums: Array, sizes: Array) -> float:
    # Linearised standard error of a ratio of cluster totals: exact as the mean's when every cluster has one sample.
    total, count = sizes.sum(), len(sums)
    residual = sums - sums.sum() / total * sizes
    return float(math.sqrt(count / (count - 1) * float(residual @ residual)) / total)
