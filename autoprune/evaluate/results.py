"""What is known about one sample under one schedule, and what is said about many."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprune.evaluate.statistics import paired_drop, wilson


@dataclass(frozen=True)
class SampleResult:
    """One sample under one schedule.

    Attributes:
        index: Place of the sample in its set.
        id: Its name.
        task: Its task, if it has one.
        group: Its cluster for intervals.
        correct: Verdict in [0, 1].
        agreement: 1.0 if the tokens (or the choice) are those of the dense model's greedy answer, else 0.0.
        kl: KL(dense ‖ pruned) in nats, mean over the reference answer's tokens, the end token included.
        text: The answer.
        decided: Whether teacher forcing alone settled the answer; False if decoding had to continue.
        flops: Decoder layers over the prompt, plus scoring.
        flops_dense: The same of the dense model.
        flops_end_to_end: `flops` plus vision tower, projector, head and generated tokens.
        flops_end_to_end_dense: The same of the dense model.
        kv_bytes: KV cache once the answer is generated.
        kv_bytes_dense: The same of the dense model.
    """

    index: int
    id: str
    task: str | None
    group: str
    correct: float
    agreement: float
    kl: float
    text: str
    decided: bool
    flops: int
    flops_dense: int
    flops_end_to_end: int
    flops_end_to_end_dense: int
    kv_bytes: int
    kv_bytes_dense: int

    def to_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SampleResult:
        """The result that `to_dict` wrote."""
        return cls(**data)


@dataclass(frozen=True)
class TaskSummary:
    """Quality over the samples of one task, or over all of them."""

    accuracy: float
    accuracy_ci: tuple[float, float]
    agreement: float
    kl: float
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """The summary as a JSON object."""
        return {**dataclasses.asdict(self), "accuracy_ci": list(self.accuracy_ci)}


@dataclass(frozen=True)
class Summary(TaskSummary):
    """Cost and quality of one schedule over a data set; ratios are the sum of pruned over the sum of dense."""

    flops_ratio: float
    flops_ratio_end_to_end: float
    kv_ratio: float
    kl_p90: float
    tasks: dict[str, TaskSummary]

    def to_dict(self) -> dict[str, Any]:
        """The keys that a point of ``front.json`` has."""
        tasks = {name: task.to_dict() for name, task in self.tasks.items()}
        return {**dataclasses.asdict(self), "accuracy_ci": list(self.accuracy_ci), "tasks": tasks}


def summarise(results: Sequence[SampleResult]) -> Summary:
    """Aggregates the results of one schedule.

    Raises:
        ValueError: there are no results.
    """
    tasks = sorted({result.task for result in results if result.task is not None})
    return Summary(
        **_quality(results),
        flops_ratio=_ratio([r.flops for r in results], [r.flops_dense for r in results]),
        flops_ratio_end_to_end=_ratio(
            [r.flops_end_to_end for r in results], [r.flops_end_to_end_dense for r in results]
        ),
        kv_ratio=_ratio([r.kv_bytes for r in results], [r.kv_bytes_dense for r in results]),
        kl_p90=float(np.quantile([r.kl for r in results], 0.9)),
        tasks={task: TaskSummary(**_quality([r for r in results if r.task == task])) for task in tasks},
    )


def flops_quantiles(results: Sequence[SampleResult]) -> dict[str, float]:
    """How the prefill FLOPs of single samples over dense are spread: `p10`, `p50`, `p90` and `max`.

    Schedules that keep by `mass` or `threshold` cost each input something else; with ratios only prompts differ.
    """
    ratios = [r.flops / r.flops_dense for r in results]
    p10, p50, p90 = (float(q) for q in np.quantile(ratios, (0.1, 0.5, 0.9)))
    return {"p10": p10, "p50": p50, "p90": p90, "max": max(ratios)}


def compare(dense: Sequence[SampleResult], pruned: Sequence[SampleResult], seed: int = 0) -> dict[str, Any]:
    """What is lost from dense to pruned on the same samples, over all and per task.

    Args:
        dense: Results of the dense model; more than those of `pruned` are allowed.
        pruned: Results of the schedule.
        seed: Of the bootstrap.

    Returns:
        ``{"drop", "drop_ci": [low, high], "drop_se", "tasks": {task: the same three}}``, absolute accuracy.

    Raises:
        ValueError: a pruned sample has no dense result.
    """
    before = {result.index: result for result in dense}
    missing = [result.index for result in pruned if result.index not in before]
    if missing:
        raise ValueError(f"samples without a dense result: {missing[:5]}")
    tasks = sorted({result.task for result in pruned if result.task is not None})
    return {
        **_drop(before, pruned, seed),
        "tasks": {task: _drop(before, [r for r in pruned if r.task == task], seed) for task in tasks},
    }


def _quality(results: Sequence[SampleResult]) -> dict[str, Any]:
    if not results:
        raise ValueError("no results to summarise")
    correct = sum(result.correct for result in results)
    return {
        "accuracy": correct / len(results),
        "accuracy_ci": wilson(correct, len(results)),
        "agreement": float(np.mean([result.agreement for result in results])),
        "kl": float(np.mean([result.kl for result in results])),
        "samples": len(results),
    }


def _ratio(pruned: list[int], dense: list[int]) -> float:
    return sum(pruned) / sum(dense)


def _drop(dense: dict[int, SampleResult], pruned: Sequence[SampleResult], seed: int) -> dict[str, Any]:
    drop = paired_drop(
        [dense[r.index].correct for r in pruned], [r.correct for r in pruned], [r.group for r in pruned], seed
    )
    return {"drop": drop.estimate, "drop_ci": [drop.low, drop.high], "drop_se": drop.se}
