"""Promises: which schedule loses less than a bound, at a stated confidence, however many were looked at.

Fixed-sequence testing of *Learn then Test* (Angelopoulos et al. 2021) along a front that other rows have put in order
(*Pareto Testing*, Laufer-Goldshtein et al. 2023): the hypothesis "it loses the bound or more" is tested from the
dearest schedule to the cheapest until it is not rejected. Only the first schedule that truly loses too much can be
promised wrongly, and its one test errs with 1 - confidence: there is nothing to correct for the number of schedules.

Near dense a handful of answers change, and the spread that so few show is too small where the few are absent by luck.
So a drop is judged by the spread that a schedule just at the bound would have (Tango 1998, the score test of paired
shares) times the design effect of the groups, or by its own clustered standard error where that is larger.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from autoprune.evaluate.losses import Array, GroupedLosses, LossStatistics

LEAST_GROUPS = 20
"""With fewer groups of rows nothing is promised: the normal approximation does not hold."""
POWER = 0.8
"""Chance of success for which rows are counted."""


def p_values(found: LossStatistics, bound: float) -> Array:
    """P-values [resamples, schedules] of "it loses `bound` or more".

    Args:
        found: Statistics of the schedules.
        bound: Absolute loss of accuracy, in [0, 1].
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = (found.drop - bound) / np.maximum(found.error, error_at(found, bound))
    enough = found.groups >= LEAST_GROUPS
    p: Array = np.where(enough & np.isfinite(distance), norm.cdf(distance), 1.0)
    return p


def error_at(found: LossStatistics, bound: float) -> Array:
    """Standard errors [resamples, schedules] that the drops would have if they were just the bound (Tango 1998)."""
    variance = 2 * _gained_at(found.lost, found.gained, bound) + bound - bound**2
    error: Array = np.sqrt(variance * found.design_effect / found.rows)
    return error


def passed(p: Array, confidence: float) -> Array:
    """Number of schedules, [resamples], that were rejected one after another from the first on.

    Args:
        p: P-values [resamples, schedules] in the order of the tests.
        confidence: In (0.5, 1).
    """
    # A float's last digit must not decide: 1 - 0.95 is no 0.05.
    depth: Array = np.cumprod(p <= 1 - confidence + 1e-12, axis=1).sum(1)
    return depth


def promised(parts: Sequence[tuple[GroupedLosses, float]], confidence: float, drawn: Array | None = None) -> Array:
    """Number of schedules that are promised to keep every bound, [resamples].

    A schedule keeps all bounds only if each of its tests rejects, so the largest p-value tests them together: all
    bounds hold jointly with the confidence, and the depth is the least of those that single bounds reach.

    Args:
        parts: Losses of the schedules in the order of the tests, with the bound: on all rows, on those of a task.
        confidence: In (0.5, 1).
        drawn: [resamples, groups], how often each group is drawn; default: once each.
    """
    worst = np.max([p_values(losses.statistics(drawn), bound) for losses, bound in parts], axis=0)
    return passed(worst, confidence)


def upper_bound(losses: GroupedLosses, schedule: int, confidence: float) -> float:
    """The smallest loss that the test of one schedule excludes at this confidence; 1 with too few groups."""
    found = losses.statistics()

    def excess(bound: float) -> float:
        return float(p_values(found, bound)[0, schedule]) - (1 - confidence)

    if excess(1.0) > 0:
        return 1.0
    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, 1.0, xtol=1e-6))


def rows_needed(losses: GroupedLosses, schedule: int, bound: float, confidence: float) -> int | None:
    """Rows with which one schedule would pass its test with 80 % chance, if its rates are those measured.

    Returns:
        None where it is measured to lose the bound or more: no number of rows is likely to help.
    """
    found = losses.statistics()
    lost, gained = float(found.lost[0, schedule]), float(found.gained[0, schedule])
    room = bound - (lost - gained)
    if not room > 0:
        return None
    at_bound = float(error_at(found, bound)[0, schedule]) * math.sqrt(losses.rows)
    as_measured = math.sqrt(float(found.design_effect[0, 0]) * (lost + gained - (lost - gained) ** 2))
    wide = float(norm.ppf(confidence)) * at_bound + float(norm.ppf(POWER)) * as_measured
    rows = (wide / room) ** 2
    return math.ceil(max(rows, LEAST_GROUPS * losses.rows / max(losses.groups, 1)))


def _gained_at(lost: Array, gained: Array, bound: float) -> Array:
    """Most likely share of gained rows, given the counts and a drop of `bound` (Tango 1998, equation of q21)."""
    linear = -lost - gained + (2 - lost + gained) * bound
    root = np.sqrt(np.maximum(linear**2 + 8 * gained * bound * (1 - bound), 0.0))
    share: Array = np.maximum((root - linear) / 4, 0.0)
    return share
