"""What an exported schedule claims: the loss, corrected for having been chosen, and how sure its bounds are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from autoprune.evaluate.objectives import ACCURACY
from autoprune.evaluate.selection import Selected, best_among, cheapest_within, selected
from autoprune.report.export import NoPointError, refuse_hopeless, wished_point
from autoprune.report.promises import Promise, Shortfall, held_out_verdicts, losses_by_part, promise_of
from autoprune.report.reading import drop_of, flops_of, held_out, point_name, pruned_points, quality_of
from autoprune.report.uses import PromiseStanding, record_use, rows_digest
from autoprune.report.wishes import ALL_ROWS, Wish
from autoprune.report.words import percent, points
from autoprune.schedule import Schedule
from autoprune.search.front import FrontFile, Point


@dataclass(frozen=True)
class Claim:
    """A chosen point and what is claimed of it.

    Attributes:
        point: The point.
        wish: What it was chosen for.
        drop: Loss against dense, corrected for the choice; in the unit of the study's quality.
        measured: The same as measured.
        risk: Chance that a bound is broken all the same; None for a promise, and where it is not known.
        promise: The promise, if one was asked for.
        standing: What the promises of these rows are worth together, if this one was recorded.
    """

    point: Point
    wish: Wish
    drop: float
    measured: float
    risk: float | None = None
    promise: Promise | None = None
    standing: PromiseStanding | None = None

    @property
    def corrected(self) -> bool:
        """Whether the claim is not the measured loss itself."""
        return self.drop != self.measured


def claim_of(front: FrontFile, wish: Wish, record: str | Path | None = None) -> Claim:
    """The point that a wish is for, with what is claimed of it.

    Args:
        front: The front.
        wish: The wish.
        record: Output folder of the study, where a question for a promise is recorded; None records nothing.

    Raises:
        StudyError: a promise is asked of a front that holds no verdicts, or cannot be recorded.
        NoPointError: no point qualifies, or none can be promised.
    """
    if wish.confidence is not None:
        return _promised(front, wish, wish.confidence, record)
    point = wished_point(front, wish)
    measured = drop_of(front, point) or 0.0
    found = _chosen_again(front, wish, point)
    return Claim(point, wish, measured + (found.optimism if found else 0.0), measured, found.risk if found else None)


def exported(front: FrontFile, claim: Claim) -> Schedule:
    """The schedule of a claim, whose evidence says what is claimed and by which rows."""
    point, evidence = claim.point, dict(claim.point.schedule.evidence)
    if quality_of(front) == ACCURACY and evidence.get("drop") is not None:
        shift = claim.drop - claim.measured
        evidence["drop"] = claim.drop
        if low_high := evidence.get("drop_ci"):
            evidence["drop_ci"] = [min(1.0, max(-1.0, end + shift)) for end in low_high]
    evidence["export"] = export_notes(front, claim)
    return Schedule(**{**dict(point.schedule), "evidence": evidence})


def export_notes(front: FrontFile, claim: Claim) -> dict[str, Any]:
    """How the point was chosen, as JSON: what was asked, how sure it is, and the rows that say so."""
    wish, promise, verdicts = claim.wish, claim.promise, held_out_verdicts(front)
    asked: dict[str, Any] = {"max_drop": dict(wish.bounds)} if wish.bounds else {"trial": wish.trial}
    if wish.budget:
        asked = {wish.budget.name: wish.limit}
    known = {
        "kind": "promise" if promise else "estimate",
        **asked,
        "confidence": wish.confidence,
        "drop_measured": claim.measured,
        "drop_at_most": promise.most if promise else None,
        "risk": claim.risk,
        "rows": held_out(claim.point).samples,
        "groups": len(set(verdicts.groups)) if verdicts and claim.point.validation else None,
        "data_digest": rows_digest(front) if claim.point.validation else None,
        "promises_of_these_rows": claim.standing.promises if claim.standing else None,
        "promises_hold_together": claim.standing.together if claim.standing else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def shortfall_words(found: Shortfall, confidence: float) -> str:
    """Why nothing can be promised, and how many rows would help."""
    if found.nearest is None:
        return "no schedule can be promised: no pruned point was measured on all validation rows"
    of_task = f" in {found.task}" if found.task else ""
    here = (
        f"the nearest is {point_name(found.nearest)} at {percent(flops_of(found.nearest))} of the FLOPs, which loses "
        f"{points(found.lost)} points{of_task}, at most {points(found.most)} at {100 * confidence:g} % confidence"
    )
    if found.more is None:
        return f"no schedule can be promised with these rows, and more would hardly help: {here}"
    rows = f"{found.more} more" + (f" of task {found.task}" if found.task else "")
    return f"no schedule can be promised with these rows; about {rows} would do; {here}"


def _promised(front: FrontFile, wish: Wish, confidence: float, record: str | Path | None) -> Claim:
    refuse_hopeless(front)
    bounds = wish.bounds or {}
    found = promise_of(front, bounds, confidence)
    promise = found if isinstance(found, Promise) else None
    trial = promise.point.trial if promise else None
    standing = record_use(record, front, bounds, confidence, trial) if record is not None else None
    if not isinstance(found, Promise):
        near = found.nearest
        take = f"take it by `trial` {near.trial}, add" if near else "add"
        raise NoPointError(
            shortfall_words(found, confidence), field="max_drop",
            remedy=f"{take} validation rows, or allow a larger loss",
        )  # fmt: skip
    measured = drop_of(front, found.point) or 0.0
    return Claim(found.point, wish, measured + found.optimism, measured, promise=found, standing=standing)


def _chosen_again(front: FrontFile, wish: Wish, point: Point) -> Selected | None:
    """The choice by point estimates made again on drawn rows; None where the verdicts do not tell."""
    verdicts = held_out_verdicts(front)
    if wish.trial is not None or verdicts is None or quality_of(front) != ACCURACY:
        return None
    rivals = [p for p in pruned_points(front) if p.schedule.key in verdicts.points]
    if not rivals:
        return None
    found = _selected(front, wish, rivals)
    # A point that was chosen by calibration figures, for want of others, is not what these rows choose.
    return found if found and rivals[found.schedule] is point else None


def _selected(front: FrontFile, wish: Wish, rivals: Sequence[Point]) -> Selected | None:
    verdicts = held_out_verdicts(front)
    assert verdicts is not None, "looked at before"
    parts = losses_by_part(verdicts, rivals, wish.bounds or {})
    flops = np.array([flops_of(p) for p in rivals])
    if wish.budget is None:
        kept = [(parts[task], bound) for task, bound in (wish.bounds or {}).items()]
        return selected(cheapest_within(kept, flops), parts[ALL_ROWS], kept)
    costs = [wish.budget.of(p) for p in rivals]
    known = np.array([np.inf if cost is None else cost for cost in costs])
    return selected(best_among(parts[ALL_ROWS], known, known <= wish.limit), parts[ALL_ROWS])
