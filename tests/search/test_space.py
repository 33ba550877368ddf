import dataclasses
import itertools
import random
import subprocess
import sys
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprune import presets
from autoprune.errors import StudyError
from autoprune.schedule import Keep, Schedule, Stage, parse_criterion
from autoprune.search.initial import initial_schedules
from autoprune.search.sections import Space
from autoprune.search.space import SearchSpace

CODEBOOK = parse_criterion({"name": "codebook", "path": "prototypes.safetensors", "sha256": "0" * 64, "prototypes": 4})
DEFAULT = SearchSpace.of(Space(), 10)
ATTENTION = SearchSpace.of(Space(criteria=("last", "text", "visual")), 10)
MIXED = SearchSpace.of(Space(criteria=(parse_criterion("text"), parse_criterion("diversity"))), 6)
SPARSE = SearchSpace.of(Space(layers=(2, 5), keep=(0.5, 0.1), max_stages=4), 6)
SPACES = {
    "default": DEFAULT,
    "attention": ATTENTION,
    "mass": SearchSpace.of(Space(criteria=("last", "diversity"), keep=(0.0, 0.3, 0.5), mass=(0.5, 0.9)), 6),
    "no withdrawal": SearchSpace.of(Space(keep=(0.2, 0.5), mass=(0.5,), merge=(True,)), 6),
    "mixed": MIXED,
    "sparse": SPARSE,
    "layer 0 alone for one": SearchSpace.of(Space(criteria=(CODEBOOK, parse_criterion("text"))), 6),
    "layer 0 for both": SearchSpace.of(Space(criteria=(CODEBOOK, parse_criterion("uniform"))), 6),
    "layer 0 only": SearchSpace.of(Space(criteria=(CODEBOOK,)), 6),
}


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


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@given(rng=st.randoms(use_true_random=False))
def test_every_draw_is_a_valid_schedule_that_maps_back(space: SearchSpace, rng: random.Random) -> None:
    schedule = space.suggest(RandomTrial(rng))  # a Schedule checks itself
    assert 1 <= len(schedule.stages) <= space.max_stages
    shares = [s.keep.ratio for s in schedule.stages]
    ratios = [share for share in shares if share is not None]
    assert all(a > b for a, b in itertools.pairwise(ratios)), "each stage must drop something"
    assert 0.0 not in shares[:-1], "nothing follows a withdrawal"
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
    assert ATTENTION.layers[0] == 1
    assert DEFAULT.layers[0] == 0
    rng = random.Random(1)
    first = [MIXED.suggest(RandomTrial(rng)).stages[0] for _ in range(300)]
    at_input = {s.criterion.name for s in first if s.layer == 0 and s.criterion}
    assert at_input == {"diversity"}


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_criteria_are_drawn_and_probed_only_where_they_can_serve(space: SearchSpace) -> None:
    rng = random.Random(2)
    drawn = [stage for _ in range(300) for stage in space.suggest(RandomTrial(rng)).stages]
    probed = [s for o in initial_schedules([], space, 6) if o.origin == "probe" for s in o.schedule.stages]
    for stages in (drawn, probed):
        assert {s.criterion for s in stages if s.criterion} == set(space.criteria)
        assert [s for s in stages if s.criterion and s.criterion.problem_at(s.layer)] == []


def test_layers_that_no_criterion_can_serve_are_for_withdrawals() -> None:
    space = SPACES["layer 0 only"]
    half = Stage(layer=0, keep=Keep(ratio=0.5), criterion=CODEBOOK)
    behind = Schedule(stages=(half, Stage(layer=3, keep=Keep(ratio=0.0))))
    params = space.params(behind)
    assert params is not None
    assert space.suggest(optuna.trial.FixedTrial(params)) == behind
    assert SearchSpace.of(Space(criteria=(CODEBOOK,), keep=(0.2, 0.5)), 6).layers == (0,)


def test_options_of_a_schedule_that_the_space_does_not_draw_have_no_params() -> None:
    stage = Stage(layer=2, keep=Keep(ratio=0.5), criterion=parse_criterion("last"))
    merged = Schedule(stages=(stage.model_copy(update={"merge": "mean"}),))
    assert DEFAULT.params(Schedule(stages=(stage,))) is not None
    assert DEFAULT.params(merged) is not None
    assert ATTENTION.params(merged) is None
    assert DEFAULT.params(Schedule(stages=(stage,), positions="compact")) is None
    assert (
        SPACES["layer 0 for both"].params(Schedule(stages=(Stage(layer=3, keep=Keep(ratio=0.5), criterion=CODEBOOK),)))
        is None
    )


def test_schedules_outside_the_space_have_no_params() -> None:
    assert DEFAULT.params(presets.dense()) is None
    assert DEFAULT.params(presets.for_depth("himap", 10)) is None  # keeps 0.125
    assert DEFAULT.params(presets.fastv(layer=2, keep=0.5)) is not None
    assert SPARSE.params(presets.fastv(layer=3, keep=0.5)) is None


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_optuna_accepts_every_draw_in_one_study(space: SearchSpace) -> None:
    """Optuna refuses a parameter whose choices change from trial to trial."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(60):
        trial = study.ask()
        study.tell(trial, float(len(space.suggest(trial).stages)))


def test_the_space_needs_no_library_of_the_search() -> None:
    heavy = {"torch", "transformers", "optuna", "sqlalchemy", "ray"}
    code = f"import autoprune.search.space, sys; print(sorted({heavy!r} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_labels_tell_criteria_apart() -> None:
    given_criteria = [
        "text",
        "last",
        "random",
        {"name": "random", "seed": 3},
        {"name": "attention", "rows": "text", "at": "current"},
    ]
    labels = [parse_criterion(c).label for c in given_criteria]
    assert labels == ["text", "last", "random", "random seed=3", "text at=current"]


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_space_counts_and_lists_each_of_its_schedules_once(space: SearchSpace) -> None:
    small = dataclasses.replace(space, max_stages=2)
    keys = [schedule.key for schedule in small.schedules()]
    assert len(set(keys)) == len(keys) == small.size()
    drawn = {small.draw(np.random.default_rng(seed)).key for seed in range(200)}
    assert drawn <= set(keys)


def test_the_old_space_has_as_many_schedules_as_were_counted_by_hand() -> None:
    # One stage: 11 x 6 x 3 and 11 withdrawals. Two: 55 pairs of layers, 15 x 9 of two keeps and 6 x 3 withdrawals.
    space = SearchSpace.of(Space(criteria=("last", "text", "visual"), max_stages=2), 12)
    assert space.size() == 11 * 6 * 3 + 11 + 55 * (15 * 9 + 6 * 3)


def test_a_large_space_is_drawn_evenly_over_numbers_of_stages_and_without_repeats() -> None:
    rng = np.random.default_rng(0)
    drawn = [DEFAULT.draw(rng) for _ in range(300)]
    lengths = [len(s.stages) for s in drawn]
    assert all(70 < lengths.count(n) < 130 for n in (1, 2, 3))
    longer = [s.key for s in drawn if len(s.stages) > 1]
    assert len(set(longer)) == len(longer)
    assert all(DEFAULT.holds(s) for s in drawn)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_neighbours_are_of_the_space_and_one_change_away(space: SearchSpace) -> None:
    rng = np.random.default_rng(1)
    start = space.draw(rng)
    found = list(space.neighbours(start, rng))
    assert start.key not in {s.key for s in found}
    assert len({s.key for s in found}) == len(found)
    for other in found:
        assert space.holds(other)
        alike = set(start.stages) & set(other.stages)
        assert len(alike) >= max(len(start.stages), len(other.stages)) - 1
    assert list(space.neighbours(Schedule(), rng)) == []


def test_every_schedule_can_be_reached_step_by_step() -> None:
    space = SearchSpace.of(Space(layers=(0, 2), keep=(0.0, 0.5), criteria=("text", "diversity"), max_stages=2), 4)
    rng, known = np.random.default_rng(0), {}
    waiting = [space.draw(rng)]
    while waiting:
        schedule = waiting.pop()
        if schedule.key not in known:
            known[schedule.key] = schedule
            waiting += space.neighbours(schedule, rng)
    assert set(known) == {s.key for s in space.schedules()}


def test_merging_is_a_method_of_its_own() -> None:
    space = SearchSpace.of(Space(criteria=("text",), merge=(False, True), layers=(2,), keep=(0.5,)), 4)
    assert list(space.methods) == ["text", "text + merge"]
    assert [s.stages[0].merge for s in space.schedules()] == [None, "mean"]


def test_a_share_of_the_score_is_kept_only_by_criteria_that_have_one() -> None:
    stages = [s.stages[0] for s in dataclasses.replace(SPACES["mass"], max_stages=1).schedules()]
    by_mass = [s for s in stages if s.keep.mass is not None]
    assert {s.criterion.label for s in by_mass if s.criterion} == {"last"}
    assert {s.keep.mass for s in by_mass} == {0.5, 0.9}
    assert all(s.layer > 0 for s in by_mass)


def test_all_is_every_criterion_that_needs_no_file_and_looks_at_the_tokens() -> None:
    assert [c.label for c in Space().all_criteria] == [
        "last", "text", "visual", "all", "raters", "encoder", "diversity",
    ]  # fmt: skip
    assert len(DEFAULT.methods) == 14
    with_codebook = SearchSpace.of(Space(also=(CODEBOOK,)), 10)
    assert set(with_codebook.methods) - set(DEFAULT.methods) == {CODEBOOK.label, f"{CODEBOOK.label} + merge"}


def test_what_a_model_cannot_run_is_left_out_and_said() -> None:
    space = SearchSpace.of(Space(), 10, {"encoder": "it has no vision tower"})
    assert "encoder" not in space.methods
    assert "encoder + merge" not in space.methods
    assert space.left_out == (("encoder", "it has no vision tower"),)
    with pytest.raises(StudyError, match="it has no vision tower"):
        SearchSpace.of(Space(criteria=("encoder", "text")), 10, {"encoder": "it has no vision tower"})
