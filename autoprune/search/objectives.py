"""Objectives as numbers: for the sampler, for the front and for racing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from autoprune.evaluate.results import SampleResult, Summary, compare
from autoprune.search.racing import ObjectiveSamples
from autoprune.search.spec import StudySpec

Direction = Literal["minimize", "maximize"]
_MAXIMISED = ("accuracy", "agreement")


def directions(spec: StudySpec) -> list[Direction]:
    """Optuna's direction of each objective, in the order of the study file."""
    return ["maximize" if name in _MAXIMISED else "minimize" for name in spec.objectives]


def values(spec: StudySpec, summary: Summary, latency: dict[str, Any] | None) -> list[float]:
    """Value of each objective; costs are ratios to dense."""
    found = {
        "flops": summary.flops_ratio,
        "kv_bytes": summary.kv_ratio,
        "accuracy": summary.accuracy,
        "agreement": summary.agreement,
        "kl": summary.kl,
        "latency": latency["prefill_ms"] / latency["prefill_dense_ms"] if latency else None,
    }
    return [float(value) for name in spec.objectives if (value := found[name]) is not None]


def minimised(spec: StudySpec, given: Sequence[float]) -> list[float]:
    """The same values, all to be minimised."""
    return [-v if name in _MAXIMISED else v for name, v in zip(spec.objectives, given, strict=True)]


def objective_samples(
    spec: StudySpec, results: Sequence[SampleResult], latency: dict[str, Any] | None
) -> ObjectiveSamples:
    """Every objective of each sample, for racing."""
    costs: dict[str, list[float]] = {
        "flops": [r.flops for r in results],
        "kv_bytes": [r.kv_bytes for r in results],
        "latency": [latency["prefill_ms"] / latency["prefill_dense_ms"]] if latency else [],
    }
    qualities = {
        "accuracy": [r.correct for r in results],
        "agreement": [r.agreement for r in results],
        "kl": [-r.kl for r in results],
    }
    return ObjectiveSamples([costs[name] for name in spec.costs], [qualities[name] for name in spec.qualities])


def violations(spec: StudySpec, dense: Sequence[SampleResult], results: Sequence[SampleResult]) -> list[float]:
    """By how much each bound of ``constraints.max_drop`` is exceeded; ≤ 0 = kept."""
    if not spec.constraints.max_drop:
        return []
    drops = compare(dense, results)
    tasks = drops["tasks"]
    exceeded = []
    for name, bound in spec.constraints.max_drop.items():
        drop = drops["drop"] if name == "*" else tasks.get(name, {"drop": 0.0})["drop"]
        exceeded.append(float(drop) - bound)
    return exceeded
