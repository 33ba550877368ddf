"""Significance marks of a point: against its control arms and against published methods, on the same rows.

A comparison may be looked at several times while rows are measured; its p-value holds for all looks together, and all
comparisons that are shown together are corrected together (Holm).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from scipy.stats import betabinom

from autoprune.evaluate.paired import Signs, holm, sign_test, signs, spending

RISK = 0.05
"""Largest probability that any of the comparisons shown together is marked although there is no difference."""
_HOPE = 0.05
"""A comparison whose chance of being decided by the remaining rows is smaller is given up."""


@dataclass(frozen=True)
class Mark:
    """Whether a point is better than something else on the same rows.

    Attributes:
        against: Control arm or published method.
        p: One-sided p-value, exact, valid for all looks that were taken at these rows.
        adjusted_p: The same, corrected for everything that was compared.
        decided: Whether the point is better with confidence; False = not shown, which is no proof of the opposite.
        samples: Rows that the comparison rests on.
    """

    against: str
    p: float
    adjusted_p: float
    decided: bool
    samples: int


@dataclass(frozen=True)
class Pair:
    """A point beside something else, both by row.

    Attributes:
        of: Key of the point.
        against: Control arm or published method.
        ours: Quality of the point on each row, more is better.
        theirs: Quality of the other one on the rows that it was measured on.
    """

    of: str
    against: str
    ours: Mapping[int, float]
    theirs: Mapping[int, float]


@dataclass(frozen=True)
class Looks:
    """Order of the rows, and the numbers of rows after which a comparison is looked at.

    Attributes:
        order: All rows, in the order in which they are measured.
        counts: Increasing; the last one is all rows.
        groups: Cluster of each row, by row.
    """

    order: Sequence[int]
    counts: Sequence[int]
    groups: Sequence[Hashable]

    @classmethod
    def one(cls, groups: Sequence[Hashable]) -> Looks:
        """A single look at all rows."""
        return cls(range(len(groups)), (len(groups),), groups)


def marks(pairs: Sequence[Pair], looks: Looks) -> list[Mark]:
    """Marks of comparisons that are shown together, in their order."""
    seen = [_seen(pair, looks) for pair in pairs]
    shares = spending(looks.counts)
    p_values = {
        number: min((at.p / share for at, share in zip(taken, shares, strict=False)), default=1.0)
        for number, taken in enumerate(seen)
    }
    p_values = {number: min(1.0, p) for number, p in p_values.items()}
    adjusted = holm(p_values)
    return [
        Mark(
            against=pair.against,
            p=p_values[number],
            adjusted_p=adjusted[number],
            decided=adjusted[number] <= RISK,
            samples=looks.counts[len(seen[number]) - 1] if seen[number] else 0,
        )
        for number, pair in enumerate(pairs)
    ]


def open_pairs(pairs: Sequence[Pair], looks: Looks) -> list[Pair]:
    """The comparisons that more rows may still decide.

    A comparison is given up when it will hardly be decided: its predictive probability, with a uniform prior of the
    share of groups ahead (Spiegelhalter et al. 1986), is below 5 %. Giving up never marks anything, so it costs power
    only.
    """
    current = marks(pairs, looks)
    left = sum(not mark.decided for mark in current)
    return [
        pair
        for pair, mark in zip(pairs, current, strict=True)
        if not mark.decided and mark.samples < looks.counts[-1] and _may_be_decided(pair, looks, RISK / left)
    ]


def _seen(pair: Pair, looks: Looks) -> list[Signs]:
    """The comparison at every look whose rows are all known."""
    rows = list(takewhile(lambda row: row in pair.ours and row in pair.theirs, looks.order))
    found = []
    for count in looks.counts:
        if count > len(rows):
            break
        here = rows[:count]
        ours, theirs = [pair.ours[row] for row in here], [pair.theirs[row] for row in here]
        found.append(signs(ours, theirs, [looks.groups[row] for row in here]))
    return found


def _may_be_decided(pair: Pair, looks: Looks, level: float) -> bool:
    taken = _seen(pair, looks)
    if not taken:
        return True
    at, least = taken[-1], level * spending(looks.counts)[-1]
    unseen = len(set(looks.groups)) - at.groups
    telling = round(unseen * (at.ahead + at.behind + 1) / (at.groups + 2))  # groups to come that differ
    enough = next((k for k in range(telling + 1) if _p(at, k, telling) <= least), None)
    if enough is None:
        return False
    return bool(betabinom.sf(enough - 1, telling, at.ahead + 1, at.behind + 1) >= _HOPE)


def _p(at: Signs, won: int, telling: int) -> float:
    """P-value at the last look if `won` of the differing groups to come are ahead."""
    return sign_test(at.ahead + won, at.behind + telling - won)
