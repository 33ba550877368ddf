"""Racing: a candidate is stopped early when a measured point that costs no more is better with confidence.

Looks are taken after 16, 32, 64 … samples. Errors over all looks together stay below `RISK`: each look has the same
share of it (Bonferroni). The test at a look compares one incumbent with the candidate on the same samples, summed per
group, because the samples of one image are not independent. If the candidate were as good, the sign of each group's sum
would be a fair coin, and a sum of s with groups' sums d_g is reached with probability ≤ exp(-s² / (2 Σ d_g²))
(Hoeffding 1963): a bound that holds for any number of groups, so a few samples never stop a candidate by themselves.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

FIRST_LOOK = 16
RISK = 0.05
"""Largest probability that a candidate as good as the incumbent is stopped at any look."""


def looks(samples: int) -> list[int]:
    """Numbers of samples after which a candidate is looked at; the last one is all of them."""
    counts, count = [], FIRST_LOOK
    while count < samples:
        counts.append(count)
        count *= 2
    return [*counts, samples]


def race_order(count: int) -> list[int]:
    """A fixed shuffle of the rows: the first ones of a race must not be one task, as they are in a sorted file."""
    return sorted(range(count), key=lambda i: hashlib.sha256(f"race:{i}".encode()).digest())


@dataclass(frozen=True)
class ObjectiveSamples:
    """Every objective of each sample, of a candidate or of a measured point.

    Attributes:
        costs: One list per cost objective: the cost of each sample, less is better.
        qualities: One list per quality objective: the quality of each sample, MORE is better.
    """

    costs: Sequence[Sequence[float]]
    qualities: Sequence[Sequence[float]]


def is_beaten(
    candidate: ObjectiveSamples, incumbent: ObjectiveSamples, groups: Sequence[Hashable], samples: int
) -> bool:
    """Whether the incumbent costs no more and is better with confidence in every quality objective.

    Args:
        candidate: Its samples so far.
        incumbent: The same samples of a measured point.
        groups: Cluster of each of these samples.
        samples: How many samples the whole data set has.
    """
    if any(sum(theirs) > sum(ours) for ours, theirs in zip(candidate.costs, incumbent.costs, strict=True)):
        return False
    number_of_looks = len(looks(samples)) - 1  # at the last look the candidate is complete
    if number_of_looks == 0:
        return False
    return all(
        chance_of_no_worse(ours, theirs, groups) <= RISK / number_of_looks
        for ours, theirs in zip(candidate.qualities, incumbent.qualities, strict=True)
    )


def chance_of_no_worse(candidate: Sequence[float], incumbent: Sequence[float], groups: Sequence[Hashable]) -> float:
    """Upper bound of the chance to see the incumbent this far ahead if the candidate were as good."""
    ahead: dict[Hashable, float] = {}
    for ours, theirs, group in zip(candidate, incumbent, groups, strict=True):
        ahead[group] = ahead.get(group, 0.0) + theirs - ours
    total, squares = math.fsum(ahead.values()), math.fsum(d * d for d in ahead.values())
    return math.exp(-total * total / (2 * squares)) if total > 0 else 1.0
