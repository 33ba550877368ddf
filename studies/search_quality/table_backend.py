"""A backend that answers from the table of the old space, so that a whole study runs without a model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from verdicts import Table

from autoprune.errors import EvaluationError
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.sharing import Sharing
from autoprune.pricing.cost import CONVENTION
from autoprune.pricing.tokens import PromptCounts
from autoprune.schedule import Schedule
from autoprune.search.workers.protocol import EngineFacts, Inputs, Split, SplitFacts, Times

HERE = Path(__file__).parent
TEXT_TOKENS, NUMBER_BYTES = 16, 4


@cache
def table() -> Table:
    return Table.load(HERE / "old.npz")


def read_inputs(spec: Any) -> Inputs:
    """The rows of the table, and the model's configuration."""
    rows = SplitFacts("calibration.jsonl", str(table().about["data"]), table().groups, table().tasks)
    return Inputs(AutoConfig.from_pretrained(spec.model.path), table().num_layers, rows, None)


def open_engine(spec: Any) -> TableEngine:
    """The engine."""
    return TableEngine(table())


class TableEngine:
    """Answers what the table holds, and nothing else."""

    sharing = Sharing()

    def __init__(self, answers: Table) -> None:
        self._table = answers

    def facts(self) -> EngineFacts:
        """As of a model in float32."""
        prompt = PromptCounts(self._table.visual_tokens, TEXT_TOKENS, 0, 1, 2)
        return EngineFacts(
            fingerprint=str(self._table.about["model"]),
            metric_version="table",
            convention=CONVENTION,
            details={"dtype": "float32", "device": "cpu"},
            prompts=(prompt,) * self._table.rows,
            number_bytes=NUMBER_BYTES,
        )

    def evaluate(self, split: Split, schedules: Sequence[Schedule], rows: Sequence[int]) -> list[list[SampleResult]]:
        """Results of these rows; EvaluationError for a schedule that the table does not hold."""
        return [[self._result(schedule, row) for row in rows] for schedule in schedules]

    def peak_bytes(self) -> int:
        """No model, no memory."""
        return 0

    def latency(self, schedules: Sequence[Schedule]) -> list[Times]:
        """Nothing is timed."""
        raise EvaluationError("a table has no times")

    def _result(self, schedule: Schedule, row: int) -> SampleResult:
        held, dense = self._table, self._table.dense_flops // self._table.rows
        if schedule.stages and schedule.key not in held.places:
            raise EvaluationError("the table does not hold this schedule")
        place = held.places.get(schedule.key)
        right = held.dense[row] if place is None else held.verdicts[place, row]
        flops = dense if place is None else int(held.flops[place]) // held.rows
        same = float(right == held.dense[row])
        return SampleResult(
            index=row, id=str(row), task=held.tasks[row], group=held.groups[row], correct=float(right), agreement=same,
            kl=1.0 - same, text="", decided=True, flops=flops, flops_dense=dense, flops_end_to_end=flops,
            flops_end_to_end_dense=dense, kv_bytes=flops, kv_bytes_dense=dense,
        )  # fmt: skip
