"""Intervals: how sure a measured accuracy, or a measured loss of accuracy, is."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

LEVEL = 0.95
_RESAMPLES = 2000
_Z = float(norm.ppf(0.5 + LEVEL / 2))


@dataclass(frozen=True)
class Interval:
    """A 95 % interval around a paired difference.

    Attributes:
        estimate: Mean of dense - pruned over samples; positive: accuracy was lost.
        low: Lower end.
        high: Upper end.
        se: Standard error.
    """

    estimate: float
    low: float
    high: float
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


def paired_drop(dense: Sequence[float], pruned: Sequence[float], groups: Sequence[Hashable], seed: int = 0) -> Interval:
    """How much is lost from dense to pruned on the same samples, by a bootstrap over groups.

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
    estimate = float(difference.mean())
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    index = np.array([numbers[group] for group in groups])
    sums = np.append(np.bincount(index, difference), (1.0, -1.0))
    sizes = np.append(np.bincount(index).astype(float), (1.0, 1.0))
    centre = sums.sum() / sizes.sum()
    spread = _bootstrap(sums, sizes, seed) - centre
    low, high = np.quantile(spread, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    se = _cluster_error(sums, sizes)
    return Interval(estimate, max(-1.0, estimate + float(low)), min(1.0, estimate + float(high)), se)


def clustered_means(
    values: NDArray[np.float64], groups: Sequence[Hashable], seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Means over samples with 95 % intervals, by a bootstrap over groups: whole groups are drawn with replacement.

    Args:
        values: [samples, ...], one figure or many for each sample; NaN where there is none for any sample.
        groups: Cluster of each sample.
        seed: Of the resampling.

    Returns:
        Means, lower ends and upper ends, each of the shape of one sample's figures.

    Raises:
        ValueError: there are fewer than two groups, or not one for each sample.
    """
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    if len(values) != len(groups) or len(numbers) < 2:
        raise ValueError(f"need two groups or more, one for each sample; have {len(numbers)} for {len(values)}")
    index = np.array([numbers[group] for group in groups])
    flat = np.asarray(values, dtype=float).reshape(len(values), -1)
    sums = np.zeros((len(numbers), flat.shape[1]))
    np.add.at(sums, index, flat)
    sizes = np.bincount(index).astype(float)
    drawn = np.random.default_rng(seed).multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=_RESAMPLES)
    means = (drawn @ sums) / (drawn @ sizes)[:, None]
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
    shape = np.shape(values)[1:]
    return flat.mean(0).reshape(shape), low.reshape(shape), high.reshape(shape)


def _bootstrap(sums: NDArray[np.float64], sizes: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    # Groups of equal sum and size are interchangeable: drawing kinds of groups is the same, and many times faster.
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    count = len(sums)
    drawn = np.random.default_rng(seed).multinomial(count, counts / count, size=_RESAMPLES)
    means: NDArray[np.float64] = (drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1])
    return means


def _cluster_error(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> float:
    # Linearised standard error of a ratio of cluster totals: exact as the mean's when every cluster has one sample.
    total, count = sizes.sum(), len(sums)
    residual = sums - sums.sum() / total * sizes
    return float(math.sqrt(count / (count - 1) * float(residual @ residual)) / total)
