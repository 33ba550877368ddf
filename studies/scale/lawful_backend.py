"""A backend without a model: cost and quality of a schedule follow a law, and every verdict is a fixed chance.

A model of 32 layers and 576 visual tokens on 256 rows of four tasks. What is pruned early costs quality by the square
of the depth that is left; selection by text attention suits shallow layers, by visual attention deep ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import AutoConfig

from autoprune.errors import EvaluationError
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.sharing import Sharing
from autoprune.pricing.cost import CONVENTION
from autoprune.pricing.tokens import PromptCounts
from autoprune.schedule import Schedule
from autoprune.search.workers.protocol import EngineFacts, Inputs, Split, SplitFacts, Times

LAYERS, VISUAL, TEXT, ROWS = 32, 576, 64, 256
TASKS = ("ocr", "count", "colour", "place")
_FLOPS, _BEST, _WORST = 10**12, 0.95, 0.25
_FIT = {"last": 0.6, "text": 0.8, "visual": 0.7}


def read_inputs(spec: Any) -> Inputs:
    """The model's configuration and the facts of the rows."""
    return Inputs(AutoConfig.from_pretrained(spec.model.path), LAYERS, _facts("calibration"), None)


def open_engine(spec: Any) -> LawfulEngine:
    """The engine."""
    return LawfulEngine()


class LawfulEngine:
    """Answers every schedule at once."""

    sharing = Sharing()

    def facts(self) -> EngineFacts:
        """As of a model in float32."""
        prompts = (PromptCounts(VISUAL, TEXT, TEXT // 2, new=2),) * ROWS
        return EngineFacts("lawful", "law", CONVENTION, {"dtype": "float32", "device": "cpu"}, prompts, number_bytes=4)

    def evaluate(self, split: Split, schedules: Sequence[Schedule], rows: Sequence[int]) -> list[list[SampleResult]]:
        """Results of these rows."""
        return [_results(schedule, rows) for schedule in schedules]

    def peak_bytes(self) -> int:
        """No model, no memory."""
        return 0

    def latency(self, schedules: Sequence[Schedule]) -> list[Times]:
        """Nothing is timed."""
        raise EvaluationError("a law has no times")


def _results(schedule: Schedule, rows: Sequence[int]) -> list[SampleResult]:
    loss, cost = _loss_and_cost(schedule)
    seed = int.from_bytes(hashlib.sha256(schedule.key.encode()).digest()[:8], "big")
    luck = np.random.default_rng(seed).random(ROWS)
    found = []
    for row in rows:
        hardness = (row * 0.6180339887) % 1.0  # spread evenly over rows
        # Most of the loss falls on the hard rows, as with real models; a row that is right dense has little noise.
        wrong = hardness < 1 - max(_WORST, _BEST - loss) + 0.05 * (luck[row] - 0.5)
        right = float(not wrong)
        flops, whole = int(_FLOPS * cost), _FLOPS
        found.append(
            SampleResult(
                index=row, id=str(row), task=TASKS[row % 4], group=str(row), correct=right, agreement=right, kl=loss,
                text="", decided=True, flops=flops, flops_dense=whole, flops_end_to_end=flops + whole,
                flops_end_to_end_dense=2 * whole, kv_bytes=flops, kv_bytes_dense=whole,
            )
        )  # fmt: skip
    return found


def _loss_and_cost(schedule: Schedule) -> tuple[float, float]:
    loss, alive, shares = 0.0, 1.0, np.ones(LAYERS)
    for stage in schedule.stages:
        share = stage.keep.ratio or 0.0
        rows = getattr(stage.criterion, "rows", None)
        fit = 0.3 if rows is None else _FIT.get(rows, 0.5) + (0.15 if (rows == "text") == (stage.layer < 12) else 0.0)
        loss += max(0.0, alive - share) * (1 - stage.layer / LAYERS) ** 2 * (1 - fit)
        alive = min(alive, share)
        shares[stage.layer :] = alive
    return loss, float((TEXT + VISUAL * shares).mean() / (TEXT + VISUAL))


def _facts(name: str) -> SplitFacts:
    tasks = tuple(TASKS[row % 4] for row in range(ROWS))
    return SplitFacts(name, f"digest of {name}", tuple(map(str, range(ROWS))), tasks)
