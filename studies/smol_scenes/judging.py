"""Whether a published claim holds on some rows: paired intervals, by rules that were set before any measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.statistics import PairedDrop, paired_drop
from autoprune.report.words import interval, points

MARGIN = 0.03
"""Accuracy; a loss up to it counts as none, and a lead up to it as none."""

Verdict = Literal["holds", "does not hold", "cannot be told"]
Results = Sequence[SampleResult]


@dataclass(frozen=True)
class Finding:
    """What the rows say of one claim.

    Attributes:
        figure: The figure with its 95 % interval.
        verdict: Whether the claim holds.
    """

    figure: str
    verdict: Verdict


def verdict(holds: bool, fails: bool) -> Verdict:
    return "holds" if holds else "does not hold" if fails else "cannot be told"


def costs_nothing(dense: Results, pruned: Results) -> Finding:
    """Claimed: no accuracy is lost. The whole interval of the loss must be below the margin, or above it."""
    loss = lost(dense, pruned)
    return Finding(f"loses {told(loss)}", verdict(loss.high <= MARGIN, loss.low > MARGIN))


def keeps(dense: Results, pruned: Results, share: float) -> Finding:
    """Claimed: at least this share of the dense accuracy is left."""
    short = paired_drop([share * r.correct for r in dense], [r.correct for r in pruned], [r.group for r in dense])
    left = fmean(r.correct for r in pruned) / max(fmean(r.correct for r in dense), 1e-9)
    figure = f"{100 * left:.1f} % is left; short of {share:.0%} by {told(short)}"
    return Finding(figure, verdict(short.high <= 0, short.low > 0))


def is_better(one: Sequence[Results], other: Sequence[Results]) -> Finding:
    """Claimed: the first arm is ahead of the second; each arm may have been run several times.

    It does not hold where the lead is surely smaller than the margin.
    """
    lead = ahead(one, other)
    return Finding(f"leads by {told(lead)}", verdict(lead.low > 0, lead.high < MARGIN))


def is_no_worse(one: Sequence[Results], other: Sequence[Results]) -> Finding:
    """Claimed: the first arm, which costs less, is as good as the second, but for the margin."""
    lead = ahead(one, other)
    return Finding(f"leads by {told(lead)}", verdict(lead.low > -MARGIN, lead.high < 0))


def lost(dense: Results, pruned: Results) -> PairedDrop:
    """Accuracy lost from dense to pruned, by a bootstrap over pictures."""
    return ahead([dense], [pruned])


def ahead(one: Sequence[Results], other: Sequence[Results]) -> PairedDrop:
    """By how much the first arm is right on more rows, each row's verdict a mean over the runs of its arm."""
    means = [[fmean(r.correct for r in row) for row in zip(*runs, strict=True)] for runs in (one, other)]
    return paired_drop(*means, [result.group for result in one[0]])


def told(drop: PairedDrop) -> str:
    """Points, with the interval."""
    return f"{points(drop.mean)} {interval((drop.low, drop.high))}"
