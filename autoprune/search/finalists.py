"""Trials that a front shows, and those of them that are worth measuring further: held-out rows, control arms, times.

Most of a front lies where nobody goes: half of the accuracy for a tenth of the cost. Only points near dense are
measured further. So are the published methods, each with the best point that costs no more, because the claim that they
are beaten rests on held-out rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from autoprune.evaluate.objectives import FLOPS, KL, OBJECTIVES, quality_of
from autoprune.evaluate.results import SampleResult
from autoprune.schedule import Schedule
from autoprune.search import objectives
from autoprune.search.pareto import non_dominated
from autoprune.search.sampler import feasible
from autoprune.search.spec import StudySpec
from autoprune.search.study import DENSE, Study
from autoprune.search.trials import candidate_of, is_distinct, measured_of, schedule_of

_ROUNDING = 1e-9  # a float's last digit must not leave a point out that loses exactly the limit


def front_trials(spec: StudySpec, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The points: complete trials that keep the study's bounds and that no other such trial dominates."""
    able = [t for t in trials if t.state == TrialState.COMPLETE and is_distinct(t) and feasible(t)]
    chosen = non_dominated([objectives.minimised(spec, t.values or ()) for t in able])
    return [able[i] for i in chosen]


def baseline_trials(study: Study, trials: Sequence[FrozenTrial]) -> list[tuple[str, FrozenTrial | None]]:
    """Each baseline of the study with its trial, if it has one."""
    by_key = {candidate_of(t).get("key"): t for t in trials if is_distinct(t)}
    return [(b.name, by_key.get(b.schedule.key)) for b in study.scope.baselines if b.schedule.stages]


def near_dense(spec: StudySpec, dense: Sequence[SampleResult], trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The points that lose at most ``search.within`` on calibration; if none does, the one that loses least.

    Args:
        spec: The study.
        dense: Results of the dense model on the calibration rows.
        trials: All trials.
    """
    points = front_trials(spec, trials)
    lost = {t.number: _lost(spec, dense, t) for t in points}
    limit = max(spec.search.within, min(lost.values(), default=0.0))
    return [t for t in points if lost[t.number] <= limit + _ROUNDING]


def anchor_trials(spec: StudySpec, dense: Sequence[SampleResult], trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """At most two trials that are safer than the dearest point near dense: they cost more and have a smaller KL.

    They are no points, because nothing is gained by them on calibration. But the tests of a promise go from the dearest
    schedule down and end at the first that fails, so schedules that hardly differ from dense have to come first.

    Args:
        spec: The study.
        dense: Results of the dense model on the calibration rows.
        trials: All trials.
    """
    points = near_dense(spec, dense, trials)
    if not points:
        return []
    cost, kl = _cost_and_kl(max(points, key=_cost_and_kl))
    able = [t for t in trials if t.state == TrialState.COMPLETE and is_distinct(t) and feasible(t)]
    safer = [t for t in able if _cost_and_kl(t)[0] > cost and _cost_and_kl(t)[1] < kl and t not in points]
    kept = sorted((safer[i] for i in non_dominated([_cost_and_kl(t) for t in safer])), key=_cost_and_kl)
    return [*kept[:1], *kept[1:][-1:]]


def held_out_schedules(study: Study, dense: Sequence[SampleResult], trials: Sequence[FrozenTrial]) -> list[Schedule]:
    """What is measured on all held-out rows: dense, the points near it, anchors, the baselines and their rivals."""
    baselines = [trial for _, trial in baseline_trials(study, trials) if trial and trial.state == TrialState.COMPLETE]
    searched = [t for t in front_trials(study.spec, trials) if t not in baselines]
    rivals = [rival for t in baselines if (rival := _rival(study.spec, t, searched))]
    points, anchors = near_dense(study.spec, dense, trials), anchor_trials(study.spec, dense, trials)
    unique = {t.number: t for t in (*points, *anchors, *baselines, *rivals)}
    return [DENSE, *map(schedule_of, unique.values())]


def left_out_because(spec: StudySpec, dense: Sequence[SampleResult], trial: FrozenTrial) -> str:
    """Reason why a point that is not near dense has no held-out figures."""
    loss = quality_of(spec.objectives).unit.loss(_lost(spec, dense, trial))
    limit = quality_of(spec.objectives).unit.loss(spec.search.within)
    return f"loses {loss} on calibration; only points within {limit} of dense (search.within) are measured further"


def _rival(spec: StudySpec, baseline: FrozenTrial, points: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The best point that costs no more than a baseline: whether the baseline is beaten is asked of this one."""
    figures = [OBJECTIVES[name].figure for name in spec.costs if OBJECTIVES[name].figure] or [FLOPS.figure]
    quality, theirs = quality_of(spec.objectives), measured_of(baseline)
    able = [t for t in points if all(measured_of(t)[figure] <= theirs[figure] for figure in figures)]
    return min(able, key=lambda t: quality.minimised(measured_of(t)[quality.figure]), default=None)


def _cost_and_kl(trial: FrozenTrial) -> tuple[float, float]:
    measured = measured_of(trial)
    return float(measured[FLOPS.figure]), float(measured.get(KL.figure, math.inf))


def _lost(spec: StudySpec, dense: Sequence[SampleResult], trial: FrozenTrial) -> float:
    quality = quality_of(spec.objectives)
    return quality.lost(quality.of(dense), float(measured_of(trial)[quality.figure]))
