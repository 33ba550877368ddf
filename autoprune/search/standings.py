"""Where a front stands against published methods: a verdict on each of them, and marks on the points.

A method is compared with one point: among those that were searched for and cost no more, the best one on calibration.
Held-out rows have no part in that choice, so their interval and their test are those of a single comparison; what is
left to correct for is the number of methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autoprune.evaluate.objectives import FLOPS, OBJECTIVES, Objective, quality_of
from autoprune.evaluate.paired import holm
from autoprune.evaluate.results import SampleResult, Summary
from autoprune.search.front import Point
from autoprune.search.leads import Lead, lead
from autoprune.search.marks import RISK, Looks, Mark, Pair, marks
from autoprune.search.notes import PresetVerdict
from autoprune.search.workers.protocol import Split

Results = Callable[[Split, Point], Sequence[SampleResult] | None]


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
        self._costs = _cost_figures(objectives)
        known = {b.trial for b in baselines}
        self._points, self._searched = points, [p for p in points if p.trial not in known and p.schedule.stages]
        self._baselines, self._results = baselines, results

    def verdicts(self, names: Sequence[tuple[str, int | None]]) -> list[PresetVerdict]:
        """A verdict on each published method.

        Args:
            names: All methods of the study with their trials, measured or not.
        """
        measured = {b.name: b for b in self._baselines}
        compared = {name: self._compared(measured[name]) for name, _ in names if name in measured}
        adjusted = holm({name: found.p for name, (_, found, _) in compared.items() if found})
        verdicts = []
        for name, trial in names:
            rival, found, split = compared.get(name, (None, None, None))
            verdict = _verdict(found, adjusted[name]) if found else "not beaten" if name in measured else None
            verdicts.append(
                PresetVerdict(
                    name=name,
                    trial=trial,
                    beaten=verdict == "beaten",
                    by=rival.trial if rival else None,
                    verdict=verdict,
                    difference=found.mean if found else None,
                    difference_ci=(found.low, found.high) if found else None,
                    p=found.p if found else None,
                    adjusted_p=adjusted[name] if found else None,
                    samples=found.samples if found else None,
                    split=split if found else None,
                )
            )
        return verdicts

    def marks(self) -> dict[str, tuple[Mark, ...]]:
        """Marks of each held-out point against the baselines that cost no less, by schedule key."""
        held = [(p, results) for p in self._points if (results := self._results("validation", p))]
        others = [(b, results) for b in self._baselines if (results := self._results("validation", b))]
        pairs = [
            Pair(point.schedule.key, other.name, self._by_row(ours), self._by_row(theirs))
            for point, ours in held
            for other, theirs in others
            if point.schedule.key != other.schedule.key and self._costs_no_more(point, other)
        ]
        if not pairs:
            return {}
        found = list(zip(pairs, marks(pairs, _one_look(held[0][1])), strict=True))
        return {
            point.schedule.key: tuple(mark for pair, mark in found if pair.of == point.schedule.key)
            for point, _ in held
        }

    def _compared(self, baseline: Point) -> tuple[Point | None, Lead | None, Split | None]:
        """The point to compare a method with, its lead, and the rows of the comparison."""
        split: Split = "validation" if baseline.validation else "calibration"
        able = [p for p in self._searched if self._costs_no_more(p, baseline)]
        able = [p for p in able if split == "calibration" or p.validation]
        best = min(able, key=lambda p: (self._minimised(p), p.flops_ratio), default=None)
        ours, theirs = (self._results(split, best) if best else None), self._results(split, baseline)
        found = lead(self._quality, ours, theirs) if ours and theirs else None
        return best, found, split

    def _costs_no_more(self, point: Point, other: Point) -> bool:
        both = point.validation is not None and other.validation is not None
        mine: Summary = point.validation if both and point.validation else point
        theirs: Summary = other.validation if both and other.validation else other
        return all(getattr(mine, figure) <= getattr(theirs, figure) for figure in self._costs)

    def _minimised(self, point: Point) -> float:
        return self._quality.minimised(getattr(point, self._quality.figure))

    def _by_row(self, results: Sequence[SampleResult]) -> dict[int, float]:
        return {r.index: -self._quality.minimised(getattr(r, self._quality.sample)) for r in results}


def _verdict(found: Lead, adjusted_p: float) -> str:
    """By the interval and the corrected test together; either alone leaves the two undistinguished."""
    if adjusted_p <= RISK and found.low > 0:
        return "beaten"
    return "not beaten" if adjusted_p <= RISK and found.high < 0 else "matched"


def _cost_figures(objectives: Sequence[str]) -> list[str]:
    """Costs that a summary holds, of those that the study searched for; times are known of a few points only."""
    rows: list[Objective] = [OBJECTIVES[name] for name in objectives]
    return [row.figure for row in rows if row.kind == "cost" and row.figure] or [FLOPS.figure]


def _one_look(results: Sequence[SampleResult]) -> Looks:
    """All rows at once."""
    groups = {r.index: r.group for r in results}
    return Looks(sorted(groups), (len(groups),), [groups.get(row, "") for row in range(max(groups) + 1)])
