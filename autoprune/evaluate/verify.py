"""Verification of a schedule on held-out data, by plain `apply` and ``generate()``, against the drop that it claims."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from autoprune.data.samples import SampleSet
from autoprune.evaluate.encoding import model_inputs
from autoprune.evaluate.generate import generate_and_score
from autoprune.evaluate.latency import time_prefill
from autoprune.evaluate.metrics import evidence_metric
from autoprune.evaluate.results import compare, flops_quantiles, summarise
from autoprune.evaluate.statistics import PairedDrop
from autoprune.models.loading import LoadedModel
from autoprune.schedule import Schedule


@dataclass(frozen=True)
class Verification:
    """Dense beside pruned on one data set.

    Attributes:
        samples: Rows.
        accuracy_dense: Accuracy of the stock model.
        accuracy: Accuracy under the schedule.
        drop: Dense minus pruned.
        drop_ci: Its 95 % interval, paired bootstrap over groups of rows.
        drop_se: Its standard error.
        claimed_drop: The drop that the schedule's evidence states, from validation rows and corrected for the choice
            that they made; None without evidence.
        allowed: ``1.96 * sqrt(se_validation**2 + se_here**2)``: how far the two drops may be apart.
        holds: Whether they are no further apart; None without evidence.
        flops_ratio: Prefill FLOPs over dense, summed over the rows.
        flops_quantiles: The same of single rows: `p10`, `p50`, `p90`, `max`.
        prefill_dense_ms: Dense prefill of one batch, median.
        prefill_ms: Pruned prefill of the same batch, in the same run.
        batch: Rows of that batch.
        tasks: Per task the drop with its interval and standard error.
        max_new_tokens: Longest answer.
        dtype: Number type that the model ran in.
        device: Kind of device that it ran on.
        differs: What the evidence was measured in and this was not, in words, by name: ``dtype``, ``device``,
            ``pixels``.
    """

    samples: int
    accuracy_dense: float
    accuracy: float
    drop: float
    drop_ci: tuple[float, float]
    drop_se: float
    claimed_drop: float | None
    allowed: float | None
    holds: bool | None
    flops_ratio: float
    flops_quantiles: dict[str, float]
    prefill_dense_ms: float
    prefill_ms: float
    batch: int
    tasks: dict[str, dict[str, Any]]
    max_new_tokens: int
    dtype: str
    device: str
    differs: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The verification as a JSON object."""
        return asdict(self)


def verify_schedule(
    loaded: LoadedModel,
    schedule: Schedule,
    data: SampleSet,
    *,
    batch_size: int = 16,
    max_new_tokens: int | None = None,
    on_step: Callable[[str], None] = lambda step: None,
) -> Verification:
    """Accuracy and drop of the patched model on held-out data, and the prefill time of the first batch beside dense.

    Answers are judged by the metric that the schedule's evidence names.

    Args:
        loaded: The model.
        schedule: The schedule, with its evidence if it has any.
        data: Rows that the study did not use.
        batch_size: Rows of a batch.
        max_new_tokens: Longest answer; None = as in the schedule's evidence, or 32 where it does not say.
        on_step: Called with a sentence on what is about to run.

    Raises:
        ModelError: the schedule is not for this model.
        StudyError: the metric of its evidence is not installed.
    """
    schedule.check_model(loaded.config)
    metric = evidence_metric(schedule.evidence)
    longest = max_new_tokens or answer_length(schedule)
    on_step(f"answering {len(data)} rows with the dense model")
    dense = generate_and_score(loaded, data, None, batch_size, max_new_tokens=longest, metric=metric)
    on_step(f"answering {len(data)} rows with the pruned model")
    pruned = generate_and_score(loaded, data, schedule, batch_size, max_new_tokens=longest, metric=metric)
    on_step("timing the prefill, dense and pruned in turn")
    rows = data[:batch_size]
    inputs = model_inputs(loaded, rows)
    times = time_prefill(loaded.model, inputs, [None, schedule])
    lost, summary = compare(dense, pruned), summarise(pruned)
    here = loaded.measured_in
    claimed, allowed = claim(schedule, lost.overall.se)
    return Verification(
        samples=len(data),
        accuracy_dense=summarise(dense).accuracy,
        accuracy=summary.accuracy,
        **_fields(lost.overall),
        tasks={name: _fields(drop) for name, drop in lost.tasks.items()},
        claimed_drop=claimed,
        allowed=allowed,
        holds=None if claimed is None or allowed is None else abs(lost.overall.mean - claimed) <= allowed,
        flops_ratio=summary.flops_ratio,
        flops_quantiles=flops_quantiles(pruned),
        prefill_dense_ms=times[0].prefill_ms,
        prefill_ms=times[1].prefill_ms,
        batch=len(rows),
        max_new_tokens=longest,
        dtype=here["dtype"],
        device=here["device"],
        differs=differences(schedule, loaded),
    )


def answer_length(schedule: Schedule) -> int:
    """Longest answer that the evidence was measured with; 32 where it does not say."""
    known = schedule.evidence.get("max_new_tokens")
    return known if isinstance(known, int) and known > 0 else 32


def differences(schedule: Schedule, loaded: LoadedModel) -> dict[str, str]:
    """What the evidence was measured in and this model is not, each in words, as `LoadedModel.measured_in` has it."""
    known = {name: (schedule.evidence.get(name), here) for name, here in loaded.measured_in.items()}
    return {
        name: f"measured in {claimed}, verified in {here}"
        for name, (claimed, here) in known.items()
        if isinstance(claimed, str) and claimed != here
    }


def _fields(lost: PairedDrop) -> dict[str, Any]:
    return {"drop": lost.mean, "drop_ci": (lost.low, lost.high), "drop_se": lost.se}


def claim(schedule: Schedule, drop_se: float) -> tuple[float | None, float | None]:
    """The drop that the evidence claims, and how far a drop measured with this standard error may be from it."""
    drop, se = schedule.evidence.get("drop"), schedule.evidence.get("drop_se")
    if not isinstance(drop, int | float) or not isinstance(se, int | float):
        return None, None
    return float(drop), 1.96 * math.hypot(float(se), drop_se)
