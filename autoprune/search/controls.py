"""Control arms: the same layers and counts as a point, but tokens chosen by chance or evenly spaced."""

from __future__ import annotations

from autoprune.schedule import Criterion, RandomCriterion, Schedule, UniformCriterion

SEEDS = (0, 1, 2)


def control_arms(schedule: Schedule) -> dict[str, Schedule]:
    """The control arms of a schedule by name: three random ones and a uniform one.

    Empty for a schedule that chooses nothing (withdrawals only), nor where the number of tokens depends on scores
    (`mass`, `threshold`): such counts cannot be had without scores.
    """
    selecting = [stage for stage in schedule.stages if stage.selects]
    if not selecting or any(stage.keep.kind in ("mass", "threshold") for stage in selecting):
        return {}
    criteria: dict[str, Criterion] = {f"random-{seed}": RandomCriterion(seed=seed) for seed in SEEDS}
    criteria["uniform"] = UniformCriterion()
    return {name: _with_criterion(schedule, criterion) for name, criterion in criteria.items()}


def _with_criterion(schedule: Schedule, criterion: Criterion) -> Schedule:
    stages = tuple(s.model_copy(update={"criterion": criterion}) if s.selects else s for s in schedule.stages)
    return Schedule(stages=stages, positions=schedule.positions)
