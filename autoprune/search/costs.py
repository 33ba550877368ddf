"""Cost of a study by phase: rows run through schedules, and what they cost in runs of the dense model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from autoprune.evaluate.results import SampleResult

Phase = Literal["dense", "search", "validation", "controls", "latency"]


@dataclass(frozen=True)
class PhaseCost:
    """Cost of one phase of a study, over all of its runs.

    Attributes:
        row_forwards: Rows run through a schedule; the dense model counts as one.
        dense_equivalents: Rows that the dense model could have run with the same decoder FLOPs of the prefill. What
            candidates shared with each other or with the dense pass is not deducted.
    """

    row_forwards: int = 0
    dense_equivalents: float = 0.0

    def __add__(self, other: PhaseCost) -> PhaseCost:
        """Both together."""
        return PhaseCost(self.row_forwards + other.row_forwards, self.dense_equivalents + other.dense_equivalents)


def cost_of(results: Iterable[SampleResult]) -> PhaseCost:
    """Cost of measuring these results."""
    ratios = [r.flops / r.flops_dense for r in results]
    return PhaseCost(len(ratios), sum(ratios))


def timing_cost(timed: Sequence[tuple[Mapping[str, Any], PhaseCost]]) -> PhaseCost:
    """Cost of timing schedules, and the dense model beside them.

    Args:
        timed: For each schedule its times and the cost of its results on any rows, for the FLOPs of one row. Times hold
            the rows of a ``batch``, ``prefills`` of it, those before the timed ones included, and how many schedules
            were timed ``together``; those of databases from before these were noted count as nothing.
    """
    rows = [int(times["batch"]) * int(times.get("prefills", 0)) for times, _ in timed]
    dense = round(sum(count / int(times.get("together", 1)) for count, (times, _) in zip(rows, timed, strict=True)))
    each = [cost.dense_equivalents / max(1, cost.row_forwards) for _, cost in timed]
    weighed = sum(count * ratio for count, ratio in zip(rows, each, strict=True))
    return PhaseCost(sum(rows) + dense, weighed + dense)
