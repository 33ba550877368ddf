"""The objectives of a study as numbers: for the sampler, for the front and for racing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoprune.evaluate.objectives import LATENCY, OBJECTIVES, Direction, time_ratio
from autoprune.evaluate.results import SampleResult, Summary, compare
from autoprune.search.racing import ObjectiveSamples
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import Times


def directions(spec: StudySpec) -> list[Direction]:
    """Optuna's direction of each objective, in the order of the study file."""
    return [OBJECTIVES[name].direction for name in spec.objectives]


def is_timed(spec: StudySpec) -> bool:
    """Whether an objective is a time, which no result holds."""
    return any(OBJECTIVES[name].aggregate is None for name in spec.objectives)


def values(spec: StudySpec, summary: Summary, latency: Times | None) -> list[float]:
    """Value of each objective; costs are ratios to dense."""
    rows = [OBJECTIVES[name] for name in spec.objectives]
    times = {LATENCY.name: time_ratio(latency)} if latency else {}
    known = [getattr(summary, row.figure) if row.figure else times.get(row.name) for row in rows]
    return [float(value) for value in known if value is not None]


def minimised(spec: StudySpec, given: Sequence[float]) -> list[float]:
    """The same values, all to be minimised."""
    return [OBJECTIVES[name].minimised(v) for name, v in zip(spec.objectives, given, strict=True)]


def objective_samples(spec: StudySpec, results: Sequence[SampleResult], latency: Times | None) -> ObjectiveSamples:
    """Every objective of each row, for racing; a time counts for all rows alike, qualities with more being better."""

    def of(name: str) -> list[float]:
        row = OBJECTIVES[name]
        if not row.sample:
            return [time_ratio(latency)] * len(results) if latency else [0.0] * len(results)
        each: list[float] = [getattr(r, row.sample) for r in results]
        return each if row.kind == "cost" else [-row.minimised(value) for value in each]

    return ObjectiveSamples([of(name) for name in spec.costs], [of(name) for name in spec.qualities])


def losses(
    spec: StudySpec, dense: Mapping[int, SampleResult], results: Sequence[SampleResult]
) -> dict[int, tuple[float, ...]]:
    """Loss of each quality by row: dense minus candidate, with more being better."""
    rows = [OBJECTIVES[name] for name in spec.qualities]
    return {
        r.index: tuple(q.lost(getattr(dense[r.index], q.sample), getattr(r, q.sample)) for q in rows) for r in results
    }


def costs(spec: StudySpec, results: Sequence[SampleResult], latency: Times | None) -> dict[str, float]:
    """Each cost relative to dense over these results; a time only if it was measured."""
    rows = [OBJECTIVES[name] for name in spec.costs]
    found = {row.name: row.of(results) for row in rows if row.sample}
    return found | {LATENCY.name: time_ratio(latency)} if latency else found


def violations(spec: StudySpec, dense: Sequence[SampleResult], results: Sequence[SampleResult]) -> list[float]:
    """By how much each bound of ``constraints.max_drop`` is exceeded; ≤ 0 = kept."""
    if not spec.constraints.max_drop:
        return []
    lost = compare(dense, results)
    drops = {"*": lost.overall.mean, **{task: drop.mean for task, drop in lost.tasks.items()}}
    return [drops.get(name, 0.0) - bound for name, bound in spec.constraints.max_drop.items()]
