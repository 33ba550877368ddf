from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom
from support.losses import DROPS, front_losses, group_names

from autoprune.evaluate.losses import GroupedLosses, resampled_groups
from autoprune.evaluate.promise import LEAST_GROUPS, p_values, passed, promised, rows_needed, upper_bound
from autoprune.evaluate.statistics import paired_drop


def grouped(rng: np.random.Generator, groups: int, size: int = 2, **kinds) -> GroupedLosses:
    return GroupedLosses.of(front_losses(rng, groups, size, **kinds), group_names(groups, size))


def test_drops_and_errors_are_those_that_the_front_shows():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 70, 200).tolist()
    losses = rng.choice([-1.0, 0.0, 1.0], p=[0.03, 0.9, 0.07], size=(200, 4))
    found = GroupedLosses.of(losses, groups).statistics()
    for schedule in range(4):
        column = losses[:, schedule]
        shown = paired_drop(np.maximum(column, 0).tolist(), np.maximum(-column, 0).tolist(), groups)
        assert found.drop[0, schedule] == pytest.approx(shown.mean)
        assert found.error[0, schedule] == pytest.approx(shown.se)


def test_a_part_counts_the_rows_of_its_task_alone():
    losses = np.array([[1.0], [0.0], [-1.0], [1.0]])
    part = GroupedLosses.of(losses, ["a", "a", "b", "c"], among=[True, True, False, True])
    assert (part.rows, part.groups) == (3, 2)
    assert part.statistics().drop[0, 0] == pytest.approx(2 / 3)


def test_rows_of_a_group_that_err_together_count_less():
    rng = np.random.default_rng(1)
    effects = [float(grouped(rng, 2000, 4, alike=alike).statistics().design_effect[0, 0]) for alike in (0.0, 0.5, 0.95)]
    assert effects[0] == pytest.approx(1.0, abs=0.1)
    assert effects[0] < effects[1] < effects[2]


@pytest.mark.parametrize(
    ("groups", "size", "bound", "drops"),
    [
        (256, 2, 0.02, DROPS),
        (256, 2, 0.02, np.array([0.0, 0.02, 0.05, 0.1])),  # the second loses exactly what is not allowed
        (128, 2, 0.01, np.array([0.01, 0.05, 0.1])),
        (256, 1, 0.05, np.array([0.0, 0.01, 0.05, 0.2])),
        (40, 4, 0.05, np.array([0.05, 0.1, 0.2])),
    ],
)
def test_what_is_promised_keeps_its_bound_as_often_as_stated(groups, size, bound, drops):
    rng, draws, broken = np.random.default_rng(2), 1500, 0
    for _ in range(draws):
        depth = int(promised([(grouped(rng, groups, size, drops=drops), bound)], 0.95)[0])
        broken += depth > 0 and drops[depth - 1] >= bound - 1e-12
    assert broken <= binom.ppf(0.999, draws, 0.05)


def test_every_bound_of_a_promise_is_kept_at_once():
    rng, draws, broken = np.random.default_rng(3), 1000, 0
    easy, hard = np.array([0.0, 0.005, 0.02, 0.02]), np.array([0.0, 0.01, 0.05, 0.05])
    for _ in range(draws):
        parts = [(grouped(rng, 256, drops=easy), 0.02), (grouped(rng, 256, drops=hard), 0.05)]
        depth = int(promised(parts, 0.95)[0])
        assert depth == min(int(promised([part], 0.95)[0]) for part in parts)
        broken += depth > 2
    assert broken <= binom.ppf(0.999, draws, 0.05)


def test_more_rows_promise_cheaper_schedules():
    rng = np.random.default_rng(4)
    depths = [
        np.mean([promised([(grouped(rng, groups), 0.02)], 0.95)[0] for _ in range(40)]) for groups in (64, 256, 1024)
    ]
    assert depths[0] < depths[1] < depths[2]
    assert DROPS[round(depths[2]) - 1] > 0.005


def test_the_walk_ends_at_the_first_that_is_not_rejected():
    assert passed(np.array([[0.01, 0.05, 0.2, 0.001], [0.06, 0.0, 0.0, 0.0]]), 0.95).tolist() == [2, 0]
    assert passed(np.array([[1 - 0.95, 1 - 0.9]]), 0.9).tolist() == [2]


def test_a_front_that_changes_nothing_is_promised_once_the_rows_can_tell():
    still = np.zeros((400, 1))
    few, many = GroupedLosses.of(still[:100], range(100)), GroupedLosses.of(still, range(400))
    assert promised([(few, 0.02)], 0.95)[0] == 0
    assert promised([(many, 0.02)], 0.95)[0] == 1
    assert upper_bound(many, 0, 0.95) == pytest.approx(0.0066, abs=1e-3)


def test_too_few_groups_promise_nothing():
    still = np.zeros((1000, 1))
    groups = [row % (LEAST_GROUPS - 1) for row in range(1000)]
    assert p_values(GroupedLosses.of(still, groups).statistics(), 0.5)[0, 0] == 1.0
    assert upper_bound(GroupedLosses.of(still, groups), 0, 0.95) == 1.0
    assert p_values(GroupedLosses.of(still, range(1000)).statistics(), 0.5)[0, 0] < 0.01


def test_the_upper_bound_is_where_the_test_turns():
    losses = grouped(np.random.default_rng(5), 200)
    for schedule in (0, 5, 9):
        bound = upper_bound(losses, schedule, 0.95)
        p = [p_values(losses.statistics(), bound + shift)[0, schedule] for shift in (-1e-4, 1e-4)]
        assert p[0] > 0.05 > p[1]


def test_rows_needed_are_enough_four_times_out_of_five():
    losses = np.zeros((400, 1))
    losses[:6], losses[6:10] = 1.0, -1.0
    needed = rows_needed(GroupedLosses.of(losses, range(400)), 0, 0.02, 0.95)
    assert needed is not None
    rng = np.random.default_rng(6)
    passes = [
        promised([(GroupedLosses.of(losses[rng.integers(0, 400, needed)], range(needed)), 0.02)], 0.95)[0]
        for _ in range(400)
    ]
    assert np.mean(passes) == pytest.approx(0.8, abs=0.08)


def test_no_number_of_rows_helps_a_schedule_beyond_the_bound():
    losses = np.zeros((400, 1))
    losses[:8] = 1.0
    assert rows_needed(GroupedLosses.of(losses, range(400)), 0, 0.02, 0.95) is None


def test_a_resample_without_rows_of_a_task_promises_nothing():
    part = GroupedLosses.of(np.zeros((60, 1)), range(60), among=[row < 30 for row in range(60)])
    drawn = resampled_groups(60, 3, seed=0)
    drawn[0, :30] = 0.0
    assert p_values(part.statistics(drawn), 0.9)[:, 0].tolist()[0] == 1.0
