"""Racing: a candidate is stopped early when a measured point that costs no more is better with confidence.

The test at a look compares one incumbent with the candidate on the rows that the candidate was measured on. The rows of
one image are not independent, so a group counts once, by the sign of its summed difference. If the candidate were as
good as the incumbent, each of these signs would be a fair coin; the probability of at least so many for the incumbent
is therefore exact for any number of groups and any dependence within them (sign test; with one row per group and
verdicts of 0 or 1 it is McNemar's exact test). What is exact is this probability for the rows that were measured: they
are taken as they come, and the incumbent was chosen beforehand.

Several looks share the error: each doubling of the rows may spend the same part of `RISK`, as in Pocock's design (1977)
where looks are equally strict, and a look between two doublings spends the part since the look before it (Lan & DeMets
1983). The parts are added up without regard to how the looks depend on each other, so all looks together err with at
most `RISK`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from autoprune.evaluate.paired import signs

FIRST_LOOK = 16
RISK = 0.05
"""Largest probability that a candidate as good as the incumbent is stopped at any look."""


def looks(rows: int, first: int = FIRST_LOOK) -> list[int]:
    """Numbers of rows after which a candidate is looked at, each twice the one before; the last one is all of them."""
    counts, count = [], first
    while count < rows:
        counts.append(count)
        count *= 2
    return [*counts, rows]


def race_order(count: int) -> list[int]:
    """A fixed shuffle of the rows: the first ones of a race must not be one task, as they are in a sorted file."""
    return sorted(range(count), key=lambda i: hashlib.sha256(f"race:{i}".encode()).digest())


def spent(seen: int, rows: int) -> float:
    """Part of the risk that looks at up to `seen` of all `rows` may spend: the same for each doubling."""
    start = FIRST_LOOK // 2
    return math.log2(seen / start) / math.log2(rows / start) if rows > seen > start else float(seen >= rows)


@dataclass(frozen=True)
class ObjectiveSamples:
    """Every objective of each row, of a candidate or of a measured point.

    Attributes:
        costs: One list per cost objective: the cost of each row, less is better.
        qualities: One list per quality objective: the quality of each row, MORE is better.
    """

    costs: Sequence[Sequence[float]]
    qualities: Sequence[Sequence[float]]


def is_beaten(
    candidate: ObjectiveSamples,
    incumbent: ObjectiveSamples,
    groups: Sequence[Hashable],
    rows: int,
    looked: int = 0,
) -> bool:
    """Whether the incumbent costs no more and is better with confidence in every quality objective.

    Args:
        candidate: Its rows so far.
        incumbent: The same rows of a measured point.
        groups: Cluster of each of these rows.
        rows: How many rows the whole data set has; with all of them a candidate is complete and no test is needed.
        looked: Rows of the candidate at the look before.
    """
    if len(groups) >= rows:
        return False
    if any(sum(theirs) > sum(ours) for ours, theirs in zip(candidate.costs, incumbent.costs, strict=True)):
        return False
    level = RISK * (spent(len(groups), rows) - spent(looked, rows))
    return all(
        signs(theirs, ours, groups).p <= level
        for ours, theirs in zip(candidate.qualities, incumbent.qualities, strict=True)
    )
