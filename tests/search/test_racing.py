import random

import pytest

from autoprune.search.racing import FIRST_LOOK, RISK, ObjectiveSamples, chance_of_no_worse, is_beaten, looks


def samples(correct: list[float], cost: float = 1.0) -> ObjectiveSamples:
    return ObjectiveSamples([[cost] * len(correct)], [correct])


def stopped(candidate: list[float], incumbent: list[float], groups: list[int]) -> int | None:
    """The look at which a race ends early, if it does."""
    for count in looks(len(candidate))[:-1]:
        if is_beaten(samples(candidate[:count]), samples(incumbent[:count]), groups[:count], len(candidate)):
            return count
    return None


def test_looks_double_and_end_with_everything() -> None:
    assert looks(256) == [16, 32, 64, 128, 256]
    assert looks(100) == [16, 32, 64, 100]
    assert looks(10) == [10]


@pytest.mark.parametrize("per_group", [1, 4])
@pytest.mark.parametrize("differing", [0.05, 0.5])
def test_false_stops_stay_below_the_risk(per_group: int, differing: float) -> None:
    """An equally good candidate, over all looks of a race of 256 samples, samples of a group fully dependent."""
    rng = random.Random(per_group)
    races, wrong = 3000, 0
    groups = [i // per_group for i in range(256)]
    for _ in range(races):
        signs = [rng.choice((1, -1)) if rng.random() < differing else 0 for _ in range(256 // per_group)]
        candidate = [float(signs[g] < 0 or (signs[g] == 0)) for g in groups]
        incumbent = [float(signs[g] > 0 or (signs[g] == 0)) for g in groups]
        wrong += stopped(candidate, incumbent, groups) is not None
    assert wrong / races <= RISK


def test_the_dependence_within_groups_is_what_keeps_it_honest() -> None:
    """The same race with groups ignored stops good candidates too often: the grouping is needed, and works."""
    rng = random.Random(0)
    wrong = 0
    for _ in range(1000):
        signs = [rng.choice((1, -1)) for _ in range(16)]
        candidate = [float(signs[i // 16] < 0) for i in range(256)]
        incumbent = [float(signs[i // 16] > 0) for i in range(256)]
        wrong += stopped(candidate, incumbent, list(range(256))) is not None
    assert wrong / 1000 > RISK


def test_a_hopeless_candidate_is_stopped_soon() -> None:
    rng = random.Random(0)
    early = 0
    for _ in range(200):
        incumbent = [float(rng.random() < 0.95) for _ in range(256)]
        candidate = [float(rng.random() < 0.3) for _ in range(256)]
        early += (stopped(candidate, incumbent, list(range(256))) or 256) <= 32
    assert early / 200 > 0.95


def test_a_better_candidate_is_never_stopped_by_a_dearer_or_worse_incumbent() -> None:
    good, bad, groups = [1.0] * 64, [0.0] * 64, list(range(64))
    assert is_beaten(samples(bad), samples(good), groups, 256)
    assert not is_beaten(samples(good), samples(bad), groups, 256)
    assert not is_beaten(samples(bad, cost=1.0), samples(good, cost=1.1), groups, 256)
    assert not is_beaten(samples(good), samples(good), groups, 256)


def test_one_group_is_no_evidence() -> None:
    assert chance_of_no_worse([0.0] * FIRST_LOOK, [1.0] * FIRST_LOOK, ["same image"] * FIRST_LOOK) > 0.5


def test_every_quality_must_be_worse() -> None:
    groups = list(range(64))
    candidate = ObjectiveSamples([[1.0] * 64], [[0.0] * 64, [0.5] * 64])
    incumbent = ObjectiveSamples([[1.0] * 64], [[1.0] * 64, [0.5] * 64])
    assert not is_beaten(candidate, incumbent, groups, 256)


def test_a_set_of_one_look_never_races() -> None:
    assert not is_beaten(samples([0.0] * 16), samples([1.0] * 16), list(range(16)), 16)
