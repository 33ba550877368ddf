import math
import random

import pytest

from autoprune.search.racing import FIRST_LOOK, RISK, ObjectiveSamples, is_beaten, looks, spent


def samples(correct: list[float], cost: float = 1.0) -> ObjectiveSamples:
    return ObjectiveSamples([[cost] * len(correct)], [correct])


def stopped(candidate: list[float], incumbent: list[float], groups: list[int]) -> int | None:
    """The look at which a race ends early, if it does."""
    return stopped_at(looks(len(candidate))[:-1], candidate, incumbent, groups)


def stopped_at(counts: list[int], candidate: list[float], incumbent: list[float], groups: list[int]) -> int | None:
    looked = 0
    for count in counts:
        if is_beaten(samples(candidate[:count]), samples(incumbent[:count]), groups[:count], len(candidate), looked):
            return count
        looked = count
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
    worst, best = samples([0.0] * FIRST_LOOK), samples([1.0] * FIRST_LOOK)
    assert is_beaten(worst, best, list(range(FIRST_LOOK)), 256)
    assert not is_beaten(worst, best, ["same image"] * FIRST_LOOK, 256)


def test_seven_unanimous_groups_are_enough_and_one_against_them_is_not() -> None:
    """Hoeffding's bound needed nine."""
    lost = [0.0] * 7 + [1.0] * 9
    groups = list(range(FIRST_LOOK))
    assert is_beaten(samples(lost), samples([1.0] * FIRST_LOOK), groups, 256)
    assert not is_beaten(samples([1.0, *lost[1:]]), samples([0.0] + [1.0] * 15), groups, 256)
    assert not is_beaten(samples([0.0] * 6 + [1.0] * 10), samples([1.0] * FIRST_LOOK), groups, 256)


@pytest.mark.parametrize("counts", [[16, 32, 64, 128], [21, 40, 41, 200], [9, 10, 11, 12, 13, 14, 15, 16], [255]])
def test_looks_together_spend_no_more_than_the_risk_wherever_they_are(counts: list[int]) -> None:
    parts = [spent(here, 256) - spent(before, 256) for before, here in zip((0, *counts), counts, strict=False)]
    assert all(part >= 0 for part in parts)
    assert sum(parts) <= 1
    rng = random.Random(0)
    races, wrong = 3000, 0
    for _ in range(races):
        signs = [rng.choice((1, -1)) for _ in range(256)]
        candidate, incumbent = [float(s < 0) for s in signs], [float(s > 0) for s in signs]
        wrong += stopped_at(counts, candidate, incumbent, list(range(256))) is not None
    assert wrong / races <= RISK


def test_it_stops_earlier_than_hoeffdings_bound_did() -> None:
    def hoeffding(candidate: list[float], incumbent: list[float]) -> int:
        for count in (16, 32, 64, 128):
            ahead = [b - a for a, b in zip(candidate[:count], incumbent[:count], strict=True)]
            total, squares = sum(ahead), sum(d * d for d in ahead)
            if total > 0 and math.exp(-total * total / (2 * squares)) <= RISK / 4:
                return count
        return 256

    rng = random.Random(0)
    new = old = 0
    for _ in range(300):
        incumbent = [float(rng.random() < 0.95) for _ in range(256)]
        candidate = [float(rng.random() < 0.75) for _ in range(256)]
        new += stopped(candidate, incumbent, list(range(256))) or 256
        old += hoeffding(candidate, incumbent)
    assert new < 0.85 * old, (new, old)


def test_every_quality_must_be_worse() -> None:
    groups = list(range(64))
    candidate = ObjectiveSamples([[1.0] * 64], [[0.0] * 64, [0.5] * 64])
    incumbent = ObjectiveSamples([[1.0] * 64], [[1.0] * 64, [0.5] * 64])
    assert not is_beaten(candidate, incumbent, groups, 256)


def test_a_set_of_one_look_never_races() -> None:
    assert not is_beaten(samples([0.0] * 16), samples([1.0] * 16), list(range(16)), 16)
