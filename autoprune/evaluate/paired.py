"""Exact paired tests on groups of dependent samples, spending of their error over looks, and Holm's correction.

Samples of one image are not independent, so a group counts once: by the sign of its summed difference. Were both arms
equally good, each sign would be a fair coin, whatever the number of groups (sign test; with one sample per group and
verdicts of 0 or 1 it is McNemar's exact test). Groups without a difference say nothing and are left out.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from scipy.special import bdtrc

Name = TypeVar("Name", bound=Hashable)

_ROUNDING = 1e-9
"""A group's difference below it is rounding."""


@dataclass(frozen=True)
class Signs:
    """Groups of samples by which of two arms is ahead in them.

    Attributes:
        ahead: Groups in which the first arm is ahead.
        behind: Groups in which the second one is.
        groups: All groups, ties included.
    """

    ahead: int
    behind: int
    groups: int

    @property
    def p(self) -> float:
        """Probability of at least as many groups ahead if both arms were equally good (one-sided, exact)."""
        return sign_test(self.ahead, self.behind)


def signs(first: Sequence[float], second: Sequence[float], groups: Sequence[Hashable]) -> Signs:
    """In how many groups the first of two arms is ahead, more being better.

    Args:
        first: One quality per sample.
        second: The same samples of the other arm.
        groups: Cluster of each sample.
    """
    sums: dict[Hashable, float] = {}
    for ours, theirs, group in zip(first, second, groups, strict=True):
        sums[group] = sums.get(group, 0.0) + ours - theirs
    ahead = sum(difference > _ROUNDING for difference in sums.values())
    behind = sum(difference < -_ROUNDING for difference in sums.values())
    return Signs(ahead, behind, len(sums))


def sign_test(ahead: int, behind: int) -> float:
    """Probability of at least `ahead` heads in `ahead + behind` throws of a fair coin."""
    return float(bdtrc(ahead - 1, ahead + behind, 0.5)) if ahead > 0 else 1.0


def spending(looks: Sequence[int]) -> list[float]:
    """Share of the error that each look may spend: that of the samples which are new to it.

    Cumulative spending is linear in the samples seen (Kim & DeMets 1987, rho = 1). A test that rejects at any look
    whose p-value is at most its share of the level errs with at most that level, however the looks depend on each
    other; so the least p-value over its share is itself a valid p-value, which may be corrected for several tests.

    Args:
        looks: Increasing numbers of samples; the last one is all of them.
    """
    return [(here - before) / looks[-1] for before, here in zip((0, *looks), looks, strict=False)]


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """P-values adjusted for testing all of these at once (Holm 1979); valid under any dependence between the tests."""
    adjusted: dict[Name, float] = {}
    least = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}
