"""Losses of many schedules on the same rows, added up by group, and their statistics under resampling of groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GroupedLosses:
    """Lost and gained answers of several schedules, by group of dependent rows.

    Attributes:
        lost: [groups, schedules], rows that only the dense model answers right.
        gained: [groups, schedules], rows that only the pruned model answers right.
        sizes: [groups], rows; zero where a group has none of the task that is looked at.
    """

    lost: Array
    gained: Array
    sizes: Array

    @classmethod
    def of(cls, losses: ArrayLike, groups: Sequence[Hashable], among: ArrayLike | None = None) -> GroupedLosses:
        """Totals by group.

        Args:
            losses: [rows, schedules], dense minus pruned: 1 = lost, -1 = gained.
            groups: Cluster of each row.
            among: bool [rows], the rows to count; default: all. The groups stay the same.
        """
        table = np.asarray(losses, dtype=float)
        chosen = np.ones(len(table), dtype=bool) if among is None else np.asarray(among, dtype=bool)
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        index = np.array([numbers[group] for group in groups], dtype=int)[chosen]
        lost, gained = np.zeros((2, len(numbers), table.shape[1]))
        np.add.at(lost, index, np.maximum(table[chosen], 0.0))
        np.add.at(gained, index, np.maximum(-table[chosen], 0.0))
        return cls(lost, gained, np.bincount(index, minlength=len(numbers)).astype(float))

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.sizes.sum())

    @property
    def groups(self) -> int:
        """Number of groups that have rows."""
        return int((self.sizes > 0).sum())

    def drops(self, drawn: Array | None = None) -> Array:
        """Accuracy lost against dense, [resamples, schedules], absolute; NaN where a resample has no rows.

        Args:
            drawn: [resamples, groups], how often each group is drawn; default: once each.
        """
        weights = self._weights(drawn)
        with np.errstate(divide="ignore", invalid="ignore"):
            drops: Array = weights @ (self.lost - self.gained) / (weights @ self.sizes)[:, None]
        return drops

    def statistics(self, drawn: Array | None = None) -> LossStatistics:
        """Statistics of resamples, or of the rows themselves.

        Args:
            drawn: [resamples, groups], how often each group is drawn; default: once each.
        """
        weights = self._weights(drawn)
        rows = (weights @ self.sizes)[:, None]
        lost, gained = weights @ self.lost, weights @ self.gained
        with np.errstate(divide="ignore", invalid="ignore"):
            return LossStatistics(
                lost=lost / rows,
                gained=gained / rows,
                rows=rows,
                groups=(weights @ (self.sizes > 0))[:, None],
                error=self._error(weights, rows, lost - gained),
            )

    def _weights(self, drawn: Array | None) -> Array:
        return np.ones((1, len(self.sizes))) if drawn is None else drawn

    def _error(self, weights: Array, rows: Array, total: Array) -> Array:
        """Standard errors [resamples, schedules] as `paired_drop` gives them, one lost and one gained row added."""
        net, sizes = self.lost - self.gained, self.sizes[:, None]
        groups, all_rows = weights @ (self.sizes > 0) + 2.0, rows + 2.0
        mean = total / all_rows
        squares = weights @ net**2 - 2 * mean * (weights @ (net * sizes)) + mean**2 * (weights @ sizes**2)
        squares = np.maximum(squares, 0.0) + (1 - mean) ** 2 + (1 + mean) ** 2
        error: Array = np.sqrt((groups / (groups - 1))[:, None] * squares) / all_rows
        return error


@dataclass(frozen=True)
class LossStatistics:
    """Rates and errors, [resamples, schedules] or [resamples, 1].

    Attributes:
        lost: Share of rows that were lost.
        gained: Share of rows that were gained.
        rows: Number of rows.
        groups: Number of groups.
        error: Clustered standard error of the drop.
    """

    lost: Array
    gained: Array
    rows: Array
    groups: Array
    error: Array

    @property
    def drop(self) -> Array:
        """Accuracy lost against dense, absolute; NaN where a resample has no rows."""
        return self.lost - self.gained

    @property
    def design_effect(self) -> Array:
        """Variance of the drops over that of independent rows, [resamples, 1], at least 1; of all schedules together.

        One schedule that changes next to nothing cannot show how much the rows of a group depend on each other.
        """
        rows = self.rows + 2.0
        mean = self.drop * self.rows / rows
        independent = ((self.lost + self.gained) * self.rows + 2.0) / rows - mean**2
        with np.errstate(invalid="ignore"):
            ratio = (self.error**2 * rows).sum(1, keepdims=True) / independent.sum(1, keepdims=True)
        effect: Array = np.maximum(ratio, 1.0)
        return effect


def resampled_groups(groups: int, resamples: int, seed: int) -> Array:
    """How often each group is drawn, [resamples, groups], whole groups drawn with replacement."""
    even = np.full(groups, 1.0 / groups)
    return np.random.default_rng(seed).multinomial(groups, even, size=resamples).astype(float)
