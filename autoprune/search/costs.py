"""Cost of a study by phase: rows run through schedules, and what they cost in runs of the dense model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def timing_cost(times: Mapping[str, Mapping[str, Any]], measured: Mapping[str, PhaseCost]) -> PhaseCost:
    """Cost of timing schedules beside the dense model.

    Args:
        times: By schedule key: rows of a ``batch`` and ``prefills`` of it, those before the timed ones included.
        measured: By schedule key the cost of its results on any rows, for the FLOPs of one row.
    """
    rows = {key: int(known["batch"]) * int(known["prefills"]) for key, known in times.items()}
    each = {key: measured[key].dense_equivalents / measured[key].row_forwards for key in rows}
    dense = next(iter(rows.values()), 0)  # the dense model is one more arm
    return PhaseCost(sum(rows.values()) + dense, sum(count * each[key] for key, count in rows.items()) + dense)
