"""What a user asks of a front: one wish, checked before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoprune.errors import StudyError
from autoprune.evaluate.objectives import ACCURACY, KV_BYTES
from autoprune.report.reading import flops_of, held_out, quality_of, task_names, value_of
from autoprune.report.words import listed, milliseconds
from autoprune.search.front import FrontFile, Point

DEFAULT_MAX_DROP = 0.01
ALL_ROWS = "*"
"""Stands for all rows among the bounds of tasks."""


@dataclass(frozen=True)
class CostLimit:
    """A cost that may be limited.

    Attributes:
        name: Of the selector.
        of: The cost of a point; None where it was not measured.
        most: The largest limit that makes sense.
        what: What a limit counts, after the number.
        remedy: What to give.
        written: A cost in words.
    """

    name: str
    of: Callable[[Point], float | None]
    most: float
    what: str
    remedy: str
    written: Callable[[float], str] = "{:.3f}".format


COST_LIMITS = (
    CostLimit("max_flops", flops_of, 1.0, "of the dense FLOPs", "give a share of the dense prefill FLOPs, such as 0.4"),
    CostLimit(
        "max_latency_ms", lambda p: p.latency.prefill_ms if p.latency else None, math.inf,
        "ms of prefill, among the points that were timed", "give milliseconds of a prefill, such as 25", milliseconds,
    ),
    CostLimit(
        "max_kv", lambda p: value_of(KV_BYTES, held_out(p)), 1.0, "of the dense KV cache",
        "give a share of the dense KV bytes, such as 0.5",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Wish:
    """One selector: exactly one of the cheapest within bounds, the best within a budget, and a trial.

    Attributes:
        bounds: Largest losses against dense, absolute, by task; `ALL_ROWS` for all rows.
        budget: The cost that is limited.
        limit: Its limit.
        trial: The trial.
        confidence: With `bounds`: how sure they are to hold; None for the point estimate.
    """

    bounds: Mapping[str, float] | None = None
    budget: CostLimit | None = None
    limit: float = math.inf
    trial: int | None = None
    confidence: float | None = None

    @classmethod
    def of(
        cls,
        front: FrontFile,
        *,
        max_drop: float | Mapping[str, float] | None = None,
        max_flops: float | None = None,
        max_latency_ms: float | None = None,
        max_kv: float | None = None,
        trial: int | None = None,
        confidence: float | None = None,
    ) -> Wish:
        """The wish that these selectors make; default: a drop of at most 0.01.

        Raises:
            StudyError: more than one selector, a value out of range, no such task, or a confidence that goes with none.
        """
        limits = {"max_flops": max_flops, "max_latency_ms": max_latency_ms, "max_kv": max_kv}
        given = [name for name, value in {"max_drop": max_drop, **limits, "trial": trial}.items() if value is not None]
        if len(given) > 1:
            known = listed(("max_drop", *limits, "trial"), mark="`")
            raise StudyError(f"only one of {known} chooses a point", field=given[-1], remedy="remove the others")
        if confidence is not None:
            _check_confidence(confidence, given)
        if trial is not None:
            return cls(trial=trial)
        for budget in COST_LIMITS:
            if (limit := limits[budget.name]) is not None:
                return cls(budget=budget, limit=_checked_limit(budget, limit))
        asked = DEFAULT_MAX_DROP if max_drop is None else max_drop
        bounds = dict(asked) if isinstance(asked, Mapping) else {ALL_ROWS: asked}
        for task, bound in bounds.items():
            _check_bound(front, task, bound)
        return cls(bounds=bounds, confidence=confidence)


def _check_confidence(confidence: float, given: list[str]) -> None:
    if given not in ([], ["max_drop"]):
        raise StudyError(
            f"is the certainty of `max_drop` and says nothing of `{given[0]}`",
            field="confidence", value=confidence, remedy=f"remove it, or ask for `max_drop` instead of `{given[0]}`",
        )  # fmt: skip
    if not 0.5 < confidence < 1:
        raise StudyError("must be in (0.5, 1)", field="confidence", value=confidence, remedy="give a share: 0.95")


def _checked_limit(budget: CostLimit, limit: float) -> float:
    if not 0 < limit <= budget.most or math.isinf(limit):
        allowed = "(0, 1]" if budget.most == 1 else "above 0"
        said = f"must be in {allowed}" if budget.most == 1 else f"must be {allowed}"
        raise StudyError(said, field=budget.name, value=limit, remedy=budget.remedy)
    return limit


def _check_bound(front: FrontFile, task: str, bound: float) -> None:
    if not (bound >= 0 and (bound <= 1 or not quality_of(front).more_is_better)):
        remedy = f"give a share: 0.02 is two points of {ACCURACY.label}"
        raise StudyError("must be in [0, 1]", field="max_drop", value=bound, remedy=remedy)
    if task != ALL_ROWS and task not in task_names(front):
        known = ", ".join(task_names(front)) or "none"
        raise StudyError("the study has no such task", field="max_drop", value=task, remedy=f"its tasks: {known}")
