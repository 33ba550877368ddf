"""The lead of one schedule over another on the same rows: mean, 95 % interval, and an exact test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune.evaluate.objectives import SHARE, Objective
from autoprune.evaluate.paired import sign_test, signs
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.statistics import Estimate, clustered_means, paired_drop


@dataclass(frozen=True)
class Lead:
    """How much better one schedule is than another on the same rows.

    Attributes:
        mean: Mean over the rows; positive: the first one is better.
        low: Lower end of the 95 % interval, by a bootstrap over groups.
        high: Upper end.
        p: Two-sided, exact: of the signs of the groups' summed differences.
        samples: Number of rows.
    """

    mean: float
    low: float
    high: float
    p: float
    samples: int


def lead(quality: Objective, ours: Sequence[SampleResult], theirs: Sequence[SampleResult]) -> Lead | None:
    """The lead of one schedule over another on the rows that both were measured on; None if they are of no two groups.

    Args:
        quality: What they are judged by.
        ours: Results of the first schedule.
        theirs: Results of the second one.
    """
    other = {result.index: result for result in theirs}
    pairs = [(mine, other[mine.index]) for mine in ours if mine.index in other]
    groups = [mine.group for mine, _ in pairs]
    if len(set(groups)) < 2:
        return None
    better = [quality.minimised(getattr(mine, quality.sample)) for mine, _ in pairs]
    worse = [quality.minimised(getattr(theirs, quality.sample)) for _, theirs in pairs]
    told = signs([-value for value in better], [-value for value in worse], groups)
    p = min(1.0, 2 * min(told.p, sign_test(told.behind, told.ahead)))
    if quality.unit == SHARE:
        found: Estimate[float] = paired_drop(worse, better, groups)
        return Lead(found.mean, found.low, found.high, p, len(pairs))
    spread = clustered_means([w - b for w, b in zip(worse, better, strict=True)], groups)
    return Lead(float(spread.mean), float(spread.low), float(spread.high), p, len(pairs))
