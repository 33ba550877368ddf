from typing import Any

import optuna
import pytest
from support import fake_backend

from autoprune.schedule import Schedule
from autoprune.search.initial import baseline
from autoprune.search.sampler import make_sampler
from autoprune.search.sections import Space
from autoprune.search.space import SearchSpace

SPACE = SearchSpace.of(Space(criteria=("last", "text", "visual")), fake_backend.LAYERS)
BASELINES = [baseline(name, fake_backend.LAYERS) for name in ("vtw", "fastv", "himap", "pyramiddrop")]


def figures(schedule: Schedule) -> tuple[float, float]:
    """Cost and error of the made-up law, without noise."""
    return fake_backend.cost(schedule), 1 - sum(fake_backend.quality(schedule, t) for t in fake_backend.TASKS) / 2


def area(points: list[tuple[float, float]]) -> float:
    """What a front dominates, up to (1, 1); both minimised."""
    total, ceiling = 0.0, 1.0
    for cost, error in sorted(points):
        if error < ceiling and cost < 1:
            total, ceiling = total + (1 - cost) * (ceiling - error), error
    return total


def search(kind: Any, seed: int, trials: int) -> float:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize"] * 2, sampler=make_sampler(kind, seed, 0))
    points = []
    for initial in BASELINES:  # with probes too, chance is near the best of this law already
        study.enqueue_trial(SPACE.params(initial.schedule) or {}, user_attrs={"s": initial.schedule.to_json_dict()})
    for _ in range(trials):
        trial = study.ask()
        fixed = trial.user_attrs.get("s")
        schedule = Schedule.model_validate(fixed) if fixed else None
        if schedule is None or SPACE.params(schedule):
            schedule = SPACE.suggest(trial)
        points.append(figures(schedule))
        study.tell(trial, points[-1])
    return area(points)


@pytest.mark.parametrize(("kind", "trials"), [("tpe", 100), ("nsga2", 200)])
def test_samplers_beat_chance_on_the_same_budget(kind: str, trials: int) -> None:
    seeds = range(3)
    assert sum(search(kind, s, trials) for s in seeds) > sum(search("random", s, trials) for s in seeds)


@pytest.mark.parametrize("kind", ["tpe", "random", "nsga2"])
def test_draws_depend_on_seed_and_on_trials_in_storage(kind: Any) -> None:
    def first(seed: int, stored: int) -> dict[str, Any]:
        study = optuna.create_study(directions=["minimize"] * 2, sampler=make_sampler(kind, seed, stored))
        trial = study.ask()
        SPACE.suggest(trial)
        return trial.params

    assert first(0, 0) == first(0, 0)
    assert first(0, 0) != first(1, 0)
    assert first(0, 0) != first(0, 10)
