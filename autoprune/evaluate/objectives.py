"""The objective table: everything that is measured of a schedule, with its direction, unit and aggregate.

Study files, results, fronts, tables and plots take names and formats from here. To add an objective, give
`SampleResult` its value of one sample and `Summary` its field (both in ``results.py``), and add one row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["cost", "quality"]
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Unit:
    """Unit of an objective, and the format of its numbers.

    Attributes:
        symbol: Stands behind a value.
        difference: Unit of a difference of two values.
        scale: Factor from the stored number to the written one.
        digits: Decimals of a value.
    """

    symbol: str
    difference: str
    scale: float
    digits: int

    def value(self, number: float | None, digits: int | None = None) -> str:
        """A value with its symbol: ``34.6 %``; a dash where there is none."""
        if number is None:
            return "–"
        return f"{self._written(number, digits)}{self.symbol}"

    def change(self, number: float | None, digits: int | None = None) -> str:
        """A difference without its unit, and without a minus zero: ``−1.2``."""
        if number is None:
            return "–"
        digits = self.digits if digits is None else digits
        return self._written(round(number * self.scale, digits) / self.scale + 0.0, digits).replace("-", "−")

    def loss(self, number: float | None, digits: int | None = None) -> str:
        """A difference with its unit: ``1.2 points``."""
        return f"{self.change(number, digits)} {self.difference}"

    def _written(self, number: float, digits: int | None) -> str:
        return f"{number * self.scale:.{self.digits if digits is None else digits}f}"


SHARE = Unit(" %", "points", 100, 1)
NATS = Unit("", "nats", 1, 3)

Aggregate = Callable[[Sequence[Any], str], float | None]


def _ratio(results: Sequence[Any], name: str) -> float:
    """Sum over the samples, over the same sum of the dense model."""
    return float(sum(getattr(r, name) for r in results) / sum(getattr(r, f"{name}_dense") for r in results))


def _ratio_if_known(results: Sequence[Any], name: str) -> float | None:
    """`_ratio`; None if a sample has no value."""
    return None if any(getattr(r, name) is None for r in results) else _ratio(results, name)


def _mean(results: Sequence[Any], name: str) -> float:
    return float(np.mean([getattr(r, name) for r in results]))


def _share(results: Sequence[Any], name: str) -> float:
    return float(sum(getattr(r, name) for r in results) / len(results))


def _p90(results: Sequence[Any], name: str) -> float:
    return float(np.quantile([getattr(r, name) for r in results], 0.9))


@dataclass(frozen=True)
class Objective:
    """One row: something that is measured of a schedule.

    Attributes:
        name: As a study file names it.
        figure: Field of `Summary`, and key of a point of ``front.json``; empty for times, which are no field.
        sample: Field of `SampleResult` that is aggregated; empty for times, which a batch has and a sample has not.
        kind: Whether it says what a schedule costs or how good it is.
        direction: Optuna's name for whether less or more is better.
        unit: How a value is written.
        aggregate: From samples to a figure; None for times.
        label: Name in sentences and on axes.
        short: Name in column heads.
        version: Raised whenever the same answers would give another number; part of the ledger's addresses.
        searched: Whether a study may name it among its objectives.
    """

    name: str
    figure: str
    sample: str
    kind: Kind
    direction: Direction
    unit: Unit
    aggregate: Aggregate | None
    label: str
    short: str
    version: int = 1
    searched: bool = True

    @property
    def more_is_better(self) -> bool:
        """Whether a larger value is better."""
        return self.direction == "maximize"

    def known(self, results: Sequence[Any]) -> float | None:
        """The figure of many results; None if some of them have no price.

        Raises:
            ValueError: it is a time, which results do not hold.
        """
        if self.aggregate is None:
            raise ValueError(f"{self.name} is timed on a batch, results do not hold it")
        return self.aggregate(results, self.sample)

    def of(self, results: Sequence[Any]) -> float:
        """The figure of many results.

        Raises:
            ValueError: it is a time, which results do not hold, or has no price.
        """
        figure = self.known(results)
        if figure is None:
            raise ValueError(f"{self.name} is not priced for this model")
        return figure

    def minimised(self, value: float) -> float:
        """The value with the sign that makes less better."""
        return -value if self.more_is_better else value

    def lost(self, dense: float, pruned: float) -> float:
        """Loss from dense to pruned, in the unit of `Unit.change`; negative where it is better."""
        return self.minimised(pruned) - self.minimised(dense)


FLOPS = Objective("flops", "flops_ratio", "flops", "cost", "minimize", SHARE, _ratio, "prefill FLOPs", "FLOPs")
FLOPS_END_TO_END = Objective(
    "flops_end_to_end", "flops_ratio_end_to_end", "flops_end_to_end", "cost", "minimize", SHARE,
    _ratio_if_known, "FLOPs end to end", "FLOPs end to end", searched=False,
)  # fmt: skip
LATENCY = Objective("latency", "", "", "cost", "minimize", SHARE, None, "prefill time", "Prefill")
KV_BYTES = Objective("kv_bytes", "kv_ratio", "kv_bytes", "cost", "minimize", SHARE, _ratio, "KV cache", "KV cache")
ACCURACY = Objective("accuracy", "accuracy", "correct", "quality", "maximize", SHARE, _share, "accuracy", "Accuracy")
AGREEMENT = Objective(
    "agreement", "agreement", "agreement", "quality", "maximize", SHARE, _mean, "agreement with the dense model",
    "Agreement",
)  # fmt: skip
KL = Objective("kl", "kl", "kl", "quality", "minimize", NATS, _mean, "KL(dense ‖ pruned)", "KL")
KL_P90 = Objective(
    "kl_p90", "kl_p90", "kl", "quality", "minimize", NATS, _p90, "KL(dense ‖ pruned), 90th percentile", "KL p90",
    searched=False,
)  # fmt: skip
TABLE = (FLOPS, FLOPS_END_TO_END, LATENCY, KV_BYTES, ACCURACY, AGREEMENT, KL, KL_P90)
"""All rows; costs before qualities, in the order in which tables show them."""

OBJECTIVES = {row.name: row for row in TABLE if row.searched}
"""What a study may search for, by name."""
COSTS = tuple(name for name, row in OBJECTIVES.items() if row.kind == "cost")
QUALITIES = tuple(name for name, row in OBJECTIVES.items() if row.kind == "quality")
FIGURES = tuple(row for row in TABLE if row.figure)
"""What a summary of results holds."""


def quality_of(objectives: Sequence[str]) -> Objective:
    """The quality that a study of these objectives is judged by: accuracy if it searches for it, else its first one."""
    named = [name for name in objectives if name in QUALITIES]
    return OBJECTIVES[named[0]] if named and ACCURACY.name not in named else ACCURACY


def time_ratio(times: Mapping[str, Any]) -> float:
    """The value of `LATENCY`: pruned prefill time over dense, measured side by side."""
    return float(times["prefill_ms"] / times["prefill_dense_ms"])
