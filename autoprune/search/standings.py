"""Where a front stands against published methods: marks on its points, and a verdict on each method.

A method is compared first with one point: among those that were searched for and cost no more, the best one on
calibration. Held-out rows have no part in that choice, so what is left to correct for is the number of methods. Where
that does not show the method beaten, every other such point is asked, corrected for all pairs of point and method. Each
of the two families of tests may err with half of `RISK` in favour of the search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from autoprune.evaluate.objectives import FLOPS, OBJECTIVES, quality_of
from autoprune.evaluate.paired import holm
from autoprune.evaluate.results import SampleResult
from autoprune.search.front import Point
from autoprune.search.leads import Lead, lead
from autoprune.search.marks import RISK, Looks, Mark, Pair, marks
from autoprune.search.notes import PresetVerdict
from autoprune.search.workers.protocol import Split

Results = Callable[[Split, Point], Sequence[SampleResult] | None]
Verdict = Literal["beaten", "matched", "not beaten"]


@dataclass(frozen=True)
class _Duel:
    """A searched point against a published method on the same rows; p-values are two-sided."""

    by: Point
    lead: Lead
    split: Split
    p: float
    adjusted_p: float = 1.0

    @property
    def verdict(self) -> Verdict:
        """By the interval and the corrected test together; where they disagree, the two are not told apart."""
        if self.adjusted_p <= RISK and self.lead.low > 0:
            return "beaten"
        return "not beaten" if self.adjusted_p <= RISK and self.lead.high < 0 else "matched"


class Standings:
    """The points of a front beside its baselines.

    Args:
        objectives: Of the study.
        points: The front.
        baselines: Published methods that were measured on all rows.
        results: Whole results of a point on a data set, if there are any.
    """

    def __init__(
        self, objectives: Sequence[str], points: Sequence[Point], baselines: Sequence[Point], results: Results
    ) -> None:
        self._quality = quality_of(objectives)
        searched_costs = [OBJECTIVES[name] for name in objectives if OBJECTIVES[name].kind == "cost"]
        # Times are known of a few points only.
        self._costs = [row.figure for row in searched_costs if row.figure] or [FLOPS.figure]
        known = {b.trial for b in baselines}
        self._points, self._searched = points, [p for p in points if p.trial not in known and p.schedule.stages]
        self._baselines, self._results = baselines, results

    def verdicts(self, names: Sequence[tuple[str, int | None]]) -> list[PresetVerdict]:
        """A verdict on each published method.

        Args:
            names: All methods of the study with their trials, measured or not.
        """
        measured = {b.name: b for b in self._baselines}
        first = {name: duel for name, _ in names if name in measured and (duel := self._first_duel(measured[name]))}
        adjusted = holm({name: duel.p for name, duel in first.items()})
        verdicts = []
        for name, trial in names:
            duel = replace(first[name], adjusted_p=adjusted[name]) if name in first else None
            if name in measured and (duel is None or duel.verdict != "beaten"):
                duel = self._marked_duel(measured[name]) or duel
            verdicts.append(_noted(name, trial, duel, measured=name in measured))
        return verdicts

    def marks(self) -> dict[str, tuple[Mark, ...]]:
        """Marks of each held-out point against the baselines that cost no less, by schedule key."""
        return {point.schedule.key: tuple(mark for _, mark in found) for point, found in self._marked}

    @cached_property
    def _marked(self) -> list[tuple[Point, list[tuple[Point, Mark]]]]:
        """Held-out points, each with the baselines that cost no less and its mark against them."""
        held = [p for p in self._points if self._results("validation", p)]
        others = [b for b in self._baselines if self._results("validation", b)]
        duels = [(p, b) for p in held for b in others if p.schedule.key != b.schedule.key and self._costs_no_more(p, b)]
        if not duels:
            return [(p, []) for p in held]
        values = {p.schedule.key: self._by_row(p) for p in (*held, *others)}
        pairs = [Pair(p.schedule.key, b.name, values[p.schedule.key], values[b.schedule.key]) for p, b in duels]
        told = [replace(m, decided=m.adjusted_p <= RISK / 2) for m in marks(pairs, self._one_look(held[0]))]
        return [(p, [(b, mark) for (q, b), mark in zip(duels, told, strict=True) if q is p]) for p in held]

    def _first_duel(self, baseline: Point) -> _Duel | None:
        """The comparison with the best of the points that cost no more, by calibration; None if there is none."""
        split: Split = "validation" if baseline.validation else "calibration"
        able = [p for p in self._searched if self._costs_no_more(p, baseline)]
        able = [p for p in able if split == "calibration" or p.validation]
        best = min(able, key=lambda p: (self._minimised(p), p.flops_ratio), default=None)
        found = self._lead(split, best, baseline) if best else None
        return _Duel(best, found, split, found.p) if best and found else None

    def _marked_duel(self, baseline: Point) -> _Duel | None:
        """The comparison with the cheapest point whose mark shows it to be better."""
        for point, found in sorted(self._marked, key=lambda item: item[0].flops_ratio):
            mark = next((m for b, m in found if b is baseline and m.decided and point in self._searched), None)
            ahead = self._lead("validation", point, baseline) if mark else None
            if mark and ahead and ahead.low > 0:
                return _Duel(point, ahead, "validation", min(1.0, 2 * mark.p), min(1.0, 2 * mark.adjusted_p))
        return None

    def _lead(self, split: Split, point: Point, other: Point) -> Lead | None:
        ours, theirs = self._results(split, point), self._results(split, other)
        return lead(self._quality, ours, theirs) if ours and theirs else None

    def _costs_no_more(self, point: Point, other: Point) -> bool:
        if point.validation and other.validation:
            return all(getattr(point.validation, name) <= getattr(other.validation, name) for name in self._costs)
        return all(getattr(point, name) <= getattr(other, name) for name in self._costs)

    def _minimised(self, point: Point) -> float:
        return self._quality.minimised(getattr(point, self._quality.figure))

    def _by_row(self, point: Point) -> dict[int, float]:
        """Held-out quality by row, more being better."""
        results = self._results("validation", point) or ()
        return {r.index: -self._quality.minimised(getattr(r, self._quality.sample)) for r in results}

    def _one_look(self, point: Point) -> Looks:
        """All held-out rows at once."""
        groups = {r.index: r.group for r in self._results("validation", point) or ()}
        return Looks(sorted(groups), (len(groups),), [groups.get(row, "") for row in range(max(groups) + 1)])


def _noted(name: str, trial: int | None, duel: _Duel | None, *, measured: bool) -> PresetVerdict:
    if duel is None:
        return PresetVerdict(name=name, trial=trial, beaten=False, verdict="not beaten" if measured else None)
    return PresetVerdict(
        name=name,
        trial=trial,
        beaten=duel.verdict == "beaten",
        by=duel.by.trial,
        verdict=duel.verdict,
        difference=duel.lead.mean,
        difference_ci=(duel.lead.low, duel.lead.high),
        p=duel.p,
        adjusted_p=duel.adjusted_p,
        samples=duel.lead.samples,
        split=duel.split,
    )
