"""What a choice among measured schedules is worth: how often it breaks its bound, and by how much it flatters.

The schedule that looks best on some rows is partly the one that these rows favour (the winner's curse). Groups of rows
are drawn again, the same choice is made again on each draw, and what the chosen schedule seems to lose there is
compared with what it loses on all rows (Efron & Tibshirani 1993, chapter 17: the optimism of a rule).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprune.evaluate.losses import Array, GroupedLosses, resampled_groups

RESAMPLES = 2000
NONE = -1
"""Stands for "no schedule qualifies"."""

Choices = NDArray[np.int64]
Choose = Callable[[Array], Choices]
"""From [resamples, groups], how often each group is drawn, to the number of the schedule chosen on each draw."""


@dataclass(frozen=True)
class Selected:
    """A choice made on rows, and made again on draws of their groups.

    Attributes:
        schedule: Number of the schedule chosen.
        optimism: How much less a schedule so chosen seems to lose than it does, mean over the draws.
        risk: Chance that the schedule breaks a bound that it seems to keep; None without bounds.
    """

    schedule: int
    optimism: float
    risk: float | None


def selected(
    choose: Choose,
    losses: GroupedLosses,
    bounds: Sequence[tuple[GroupedLosses, float]] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Selected | None:
    """Makes a choice, and makes it again on many draws of the groups.

    A draw shows an error of the rule: what the schedule chosen on it loses on all rows, less what it seems to lose on
    the draw. Their mean is the optimism; added to what the schedule chosen on all rows seems to lose, the share beyond
    the bound is the risk.

    Args:
        choose: The choice.
        losses: Of the schedules on all rows.
        bounds: What the choice is meant to keep: losses on all rows or on those of a task, with the bound.
        resamples: Number of draws.
        seed: Of the draws.

    Returns:
        None where no schedule qualifies.
    """
    chosen = int(choose(np.ones((1, len(losses.sizes))))[0])
    if chosen == NONE:
        return None
    drawn = resampled_groups(len(losses.sizes), resamples, seed)
    again = choose(drawn)
    some = np.flatnonzero(again != NONE)
    if not len(some):
        return Selected(chosen, 0.0, None)

    def errors(part: GroupedLosses) -> Array:
        seeming = part.drops(drawn)[some, again[some]]
        error: Array = part.drops()[0, again[some]] - seeming
        return error

    broken = [part.drops()[0, chosen] + errors(part) > bound + 1e-9 for part, bound in bounds]
    risk = float(np.mean(np.any(broken, axis=0))) if broken else None
    return Selected(chosen, float(np.nanmean(errors(losses))), risk)


def cheapest_within(parts: Sequence[tuple[GroupedLosses, float]], costs: Array) -> Choose:
    """The choice of the cheapest schedule whose drops are within all bounds.

    Args:
        parts: Losses on all rows or on those of a task, with the bound.
        costs: [schedules].
    """

    def choose(drawn: Array) -> Choices:
        # A float's last digit must not refuse a schedule that loses exactly the bound.
        within = np.all([part.drops(drawn) <= bound + 1e-9 for part, bound in parts], axis=0)
        return _least(np.where(within, costs, np.inf))

    return choose


def best_among(losses: GroupedLosses, costs: Array, allowed: NDArray[np.bool_]) -> Choose:
    """The choice of the schedule that loses least, the cheaper one of equals.

    Args:
        losses: On all rows.
        costs: [schedules].
        allowed: [schedules], those within the budget.
    """
    order = np.argsort(costs, kind="stable")

    def choose(drawn: Array) -> Choices:
        drops: Array = np.where(allowed, losses.drops(drawn).round(12), np.inf)[:, order]
        first = _least(drops)
        return np.where(first == NONE, NONE, order[first])

    return choose


def _least(values: Array) -> Choices:
    """Place of the first least value in each row; `NONE` where all are infinite."""
    return np.where(np.isfinite(values).any(axis=1), values.argmin(axis=1), NONE)
