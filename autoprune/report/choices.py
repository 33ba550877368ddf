"""What `autoprune export` takes at usual losses: by the point estimate, and with 95 % confidence, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.evaluate.objectives import ACCURACY
from autoprune.report.export import NoPointError
from autoprune.report.exported import claim_of
from autoprune.report.promises import Shortfall, held_out_verdicts, promise_of
from autoprune.report.reading import flops_of, point_name, quality_of
from autoprune.report.tables import key_of
from autoprune.report.wishes import ALL_ROWS, Wish
from autoprune.report.words import percent, points
from autoprune.search.front import FrontFile, Point

DROPS = (0.01, 0.02, 0.05)
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Choice:
    """A point for a loss that somebody accepts.

    Attributes:
        bound: The loss accepted.
        sure: How sure it is to be kept.
        key: Of the point's card; empty without a point.
        cells: Name, FLOPs, loss and risk; empty without a point.
        reason: Why there is none.
    """

    bound: str
    sure: str
    key: str = ""
    cells: tuple[str, ...] = ()
    reason: str = ""


def choice_rows(front: FrontFile) -> list[Choice]:
    """Both choices at losses of 1, 2 and 5 points; none where the front holds no verdicts of single validation rows."""
    if quality_of(front) != ACCURACY or held_out_verdicts(front) is None:
        return []
    return [choice for bound in DROPS for choice in (_estimate(front, bound), _promise(front, bound))]


def choices_note() -> str:
    """Legend of both choices."""
    together = 1 - len(DROPS) * (1 - CONFIDENCE)
    return (
        "The cheapest schedule within a loss that you accept. By the point estimate: its loss is corrected for having "
        "been chosen by these validation rows, and the bound holds but for the risk. "
        f"With {CONFIDENCE:.0%} confidence: tested from the dearest schedule to the cheapest, in the order that the "
        "calibration rows gave, and “at most” is what its own test excludes. Each holds by itself; all "
        f"{len(DROPS)} hold together with at least {together:.0%}.".replace("%", " %")
    )


def _estimate(front: FrontFile, bound: float) -> Choice:
    words, sure = _accepted(bound), "point estimate"
    try:
        claim = claim_of(front, Wish.of(front, max_drop=bound))
    except NoPointError:
        return Choice(words, sure, reason="no point seems to lose so little")
    risk = "–" if claim.risk is None else percent(claim.risk, 0)
    return Choice(words, sure, key_of("front", claim.point), _cells(claim.point, points(claim.drop), risk))


def _promise(front: FrontFile, bound: float) -> Choice:
    words, sure = _accepted(bound), f"{percent(CONFIDENCE, 0)} confidence"
    found = promise_of(front, {ALL_ROWS: bound}, CONFIDENCE)
    if isinstance(found, Shortfall):
        more = f"about {found.more} more rows would do" if found.more else "more rows would hardly help"
        return Choice(words, sure, reason=f"none can be promised; {more}")
    loss, risk = f"at most {points(found.most)}", f"at most {percent(1 - CONFIDENCE, 0)}"
    return Choice(words, sure, key_of("front", found.point), _cells(found.point, loss, risk))


def _cells(point: Point, loss: str, risk: str) -> tuple[str, ...]:
    return point_name(point), percent(flops_of(point)), loss, risk


def _accepted(bound: float) -> str:
    return "1 point" if bound == 0.01 else f"{points(bound, 0)} points"
