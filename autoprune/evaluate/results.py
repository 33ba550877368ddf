"""Results of one sample under one schedule, and their summary over a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from autoprune.evaluate.objectives import FIGURES
from autoprune.evaluate.statistics import PairedDrop, paired_drop, wilson


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
        flops_end_to_end: `flops` plus vision tower, projector, head and generated tokens; None if not priced.
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
    flops_end_to_end: int | None
    flops_end_to_end_dense: int | None
    kv_bytes: int
    kv_bytes_dense: int


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CostRatios(_Part):
    """Cost of a schedule on a data set relative to dense: ratios of the sums over the samples; None = not priced."""

    flops_ratio: float
    flops_ratio_end_to_end: float | None
    kv_ratio: float


class Quality(_Part):
    """Quality of a schedule on the samples of one task, or on all of them.

    Attributes:
        accuracy: Mean verdict, in [0, 1].
        accuracy_ci: Its 95 % interval (Wilson).
        agreement: Share of samples answered as by the dense model.
        kl: KL(dense ‖ pruned), nats, mean.
        samples: How many.
        drop: Accuracy lost against dense, absolute; None where it was not compared.
        drop_ci: Its 95 % interval, paired bootstrap over groups.
        drop_se: Its standard error.
    """

    accuracy: float
    accuracy_ci: tuple[float, float]
    agreement: float
    kl: float
    samples: int
    drop: float | None = None
    drop_ci: tuple[float, float] | None = None
    drop_se: float | None = None


class Summary(Quality, CostRatios):
    """Cost and quality of one schedule over a data set.

    Attributes:
        kl_p90: 90th percentile of the samples' KL.
        tasks: Quality by task, for samples that have one.
    """

    kl_p90: float
    tasks: dict[str, Quality]


@dataclass(frozen=True)
class Comparison:
    """Losses from dense to pruned on the same samples: absolute accuracy, over all and by task."""

    overall: PairedDrop
    tasks: dict[str, PairedDrop]


def summarise(results: Sequence[SampleResult], dense: Sequence[SampleResult] = ()) -> Summary:
    """Cost and quality of one schedule from its results.

    Args:
        results: Results of the schedule.
        dense: Results of the dense model on the same samples, for the drops; without them there are none.

    Raises:
        ValueError: there are no results, or a sample has no dense result.
    """
    if not results:
        raise ValueError("no results to summarise")
    lost = compare(dense, results) if dense else None
    figures = {row.figure: row.known(results) for row in FIGURES}
    tasks = {
        task: Quality.model_validate(
            {row.figure: row.of(own) for row in FIGURES if row.figure in Quality.model_fields}
            | _certainty(own, lost.tasks[task] if lost else None)
        )
        for task, own in _by_task(results).items()
    }
    return Summary.model_validate({**figures, **_certainty(results, lost.overall if lost else None), "tasks": tasks})


def compare(dense: Sequence[SampleResult], pruned: Sequence[SampleResult], seed: int = 0) -> Comparison:
    """Losses from dense to pruned on the same samples, over all and per task.

    Args:
        dense: Results of the dense model; more than those of `pruned` are allowed.
        pruned: Results of the schedule.
        seed: Of the bootstrap.

    Raises:
        ValueError: a pruned sample has no dense result.
    """
    before = {result.index: result for result in dense}
    missing = [result.index for result in pruned if result.index not in before]
    if missing:
        raise ValueError(f"samples without a dense result: {missing[:5]}")
    tasks = {task: _drop(before, own, seed) for task, own in _by_task(pruned).items()}
    return Comparison(_drop(before, pruned, seed), tasks)


def flops_quantiles(results: Sequence[SampleResult]) -> dict[str, float]:
    """Quantiles over the samples of prefill FLOPs relative to dense: `p10`, `p50`, `p90` and `max`.

    Schedules that keep by `mass` or `threshold` cost each input something else; with ratios only prompts differ.
    """
    ratios = [r.flops / r.flops_dense for r in results]
    p10, p50, p90 = (float(q) for q in np.quantile(ratios, (0.1, 0.5, 0.9)))
    return {"p10": p10, "p50": p50, "p90": p90, "max": max(ratios)}


def _by_task(results: Sequence[SampleResult]) -> dict[str, list[SampleResult]]:
    tasks = sorted({result.task for result in results if result.task is not None})
    return {task: [r for r in results if r.task == task] for task in tasks}


def _certainty(results: Sequence[SampleResult], lost: PairedDrop | None) -> dict[str, Any]:
    """Number of samples, interval of the accuracy, and the drop where it is known."""
    known = {"accuracy_ci": wilson(sum(r.correct for r in results), len(results)), "samples": len(results)}
    if lost is None:
        return known
    return {**known, "drop": lost.mean, "drop_ci": (lost.low, lost.high), "drop_se": lost.se}


def _drop(dense: dict[int, SampleResult], pruned: Sequence[SampleResult], seed: int) -> PairedDrop:
    return paired_drop(
        [dense[r.index].correct for r in pruned], [r.correct for r in pruned], [r.group for r in pruned], seed
    )
