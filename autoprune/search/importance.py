"""Importance of the features of a schedule for each objective (PED-ANOVA)."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator

from autoprune.evaluate.objectives import Direction
from autoprune.schedule import Schedule, Stage
from autoprune.search.methods import Method

LEAST_TRIALS = 16
"""With fewer trials the figures would be noise."""


def importances(
    names: Sequence[str],
    directions: Sequence[Direction],
    schedules: Sequence[Schedule],
    values: Sequence[Sequence[float]],
) -> dict[str, dict[str, float]]:
    """Share of each feature in what tells the best tenth of the trials from the rest (PED-ANOVA, IJCAI 2023).

    The features are read off the schedules, so published methods count as well as draws of the sampler.

    Args:
        names: Objectives.
        directions: Optuna's direction of each.
        schedules: Complete trials; each has at least one stage.
        values: Their values, one per objective.

    Returns:
        ``{objective: {feature: share}}``; empty with fewer than `LEAST_TRIALS` trials.
    """
    if len(schedules) < LEAST_TRIALS:
        return {}
    features = [_features(schedule) for schedule in schedules]
    distributions = _distributions(features)
    found = {}
    for place, (name, direction) in enumerate(zip(names, directions, strict=True)):
        study = optuna.create_study(direction=direction)
        study.add_trials(
            optuna.create_trial(params=f, distributions=distributions, value=v[place])
            for f, v in zip(features, values, strict=True)
        )
        shares = optuna.importance.get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
        found[name] = {feature: float(share) for feature, share in shares.items()}
    return found


def _features(schedule: Schedule) -> dict[str, float | int | str]:
    first, last = schedule.stages[0], schedule.stages[-1]
    ratios = [s.keep.ratio for s in (first, last)]
    return {
        "number of stages": len(schedule.stages),
        "first layer": first.layer,
        "last layer": last.layer,
        "first keep": 0.5 if ratios[0] is None else ratios[0],
        "last keep": 0.5 if ratios[1] is None else ratios[1],
        "first criterion": _method(first),
    }


def _method(stage: Stage) -> str:
    """What chooses the tokens of a stage: ``text``, ``encoder + merge``."""
    if not stage.selects or stage.criterion is None:
        return "none (withdraw)"
    return Method(stage.criterion, stage.merge is not None).label


def _distributions(features: Sequence[dict[str, float | int | str]]) -> dict[str, BaseDistribution]:
    """Ranges that just hold what occurs; a feature that never varies is left out by Optuna."""
    found: dict[str, BaseDistribution] = {}
    for name in features[0]:
        seen = [f[name] for f in features]
        if name.endswith("criterion"):
            found[name] = CategoricalDistribution(sorted({str(v) for v in seen}))
        elif name.endswith("keep"):
            found[name] = FloatDistribution(0.0, 1.0)
        else:
            numbers = [int(v) for v in seen]
            found[name] = IntDistribution(min(numbers), max(numbers))
    return found
