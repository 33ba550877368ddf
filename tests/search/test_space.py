import itertools
import random
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune import presets
from autoprune.schedule import Keep, Schedule, Stage, parse_criterion
from autoprune.search.sections import Space
from autoprune.search.space import SearchSpace, criterion_label

DEFAULT = SearchSpace.of(Space(), 10)
MIXED = SearchSpace.of(Space(criteria=(parse_criterion("text"), parse_criterion("diversity"))), 6)
SPARSE = SearchSpace.of(Space(layers=(2, 5), keep=(0.5, 0.1), max_stages=4), 6)


class RandomTrial:
    """Draws like a sampler that knows nothing, and remembers what it drew."""

    def __init__(self, rng: Any) -> None:
        self.rng, self.params = rng, {}

    def suggest_int(self, name: str, low: int, high: int) -> int:
        return self.params.setdefault(name, self.rng.randint(low, high))

    def suggest_float(self, name: str, low: float, high: float) -> float:
        # The ends of the range are where rounding goes wrong.
        return self.params.setdefault(name, self.rng.choice([low, high, self.rng.uniform(low, high)]))

    def suggest_categorical(self, name: str, choices: tuple[str, ...]) -> Any:
        return self.params.setdefault(name, self.rng.choice(choices))


@pytest.mark.parametrize("space", [DEFAULT, MIXED, SPARSE], ids=["default", "mixed", "sparse"])
@given(rng=st.randoms(use_true_random=False))
def test_every_draw_is_a_valid_schedule_that_maps_back(space: SearchSpace, rng: random.Random) -> None:
    schedule = space.suggest(RandomTrial(rng))  # a Schedule checks itself
    assert 1 <= len(schedule.stages) <= space.max_stages
    shares = [s.keep.ratio for s in schedule.stages]
    assert all(a > b for a, b in itertools.pairwise(shares)), "each stage must drop something"
    assert {s.layer for s in schedule.stages} <= set(space.layers)
    params = space.params(schedule)
    assert params is not None
    assert space.suggest(optuna.trial.FixedTrial(params)) == schedule


def test_the_whole_space_can_be_drawn() -> None:
    space = SearchSpace.of(Space(layers=(1, 3), keep=(0.0, 0.5), criteria=(parse_criterion("text"),), max_stages=2), 4)
    rng = random.Random(0)
    drawn = {space.suggest(RandomTrial(rng)).key for _ in range(400)}
    text = parse_criterion("text")
    half = [Stage(layer=k, keep=Keep(ratio=0.5), criterion=text) for k in (1, 3)]
    none = [Stage(layer=k, keep=Keep(ratio=0.0)) for k in (1, 3)]
    everything = [(half[0],), (half[1],), (none[0],), (none[1],), (half[0], none[1])]
    assert drawn == {Schedule(stages=s).key for s in everything}


def test_layer_0_is_only_for_criteria_that_work_there() -> None:
    assert DEFAULT.layers[0] == 1
    rng = random.Random(1)
    first = [MIXED.suggest(RandomTrial(rng)).stages[0] for _ in range(300)]
    at_input = {s.criterion.name for s in first if s.layer == 0 and s.criterion}
    assert at_input == {"diversity"}


def test_schedules_outside_the_space_have_no_params() -> None:
    assert DEFAULT.params(presets.dense()) is None
    assert DEFAULT.params(presets.for_depth("himap", 10)) is None  # keeps 0.125
    assert DEFAULT.params(presets.fastv(layer=2, keep=0.5)) is not None
    assert SPARSE.params(presets.fastv(layer=3, keep=0.5)) is None


def test_optuna_accepts_every_draw_in_one_study() -> None:
    """Optuna refuses a parameter whose choices change from trial to trial."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        trial = study.ask()
        study.tell(trial, float(len(MIXED.suggest(trial).stages)))


def test_labels_tell_criteria_apart() -> None:
    given_criteria = [
        "text",
        "last",
        "random",
        {"name": "random", "seed": 3},
        {"name": "attention", "rows": "text", "at": "current"},
    ]
    labels = [criterion_label(parse_criterion(c)) for c in given_criteria]
    assert labels == ["text", "last", "random", "random seed=3", "text at=current"]
