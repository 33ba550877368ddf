"""Intervals against published values, scipy, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student

from autoprune.errors import DataError
from autoprune.evaluate.statistics import clustered_means, mean_curve, paired_drop, upper_bounds, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (81, 263), (1, 2), (500, 512)])
def test_wilson_is_scipys(successes, n):
    theirs = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_drop_is_dense_minus_pruned_and_the_same_for_the_same_seed():
    dense, pruned, groups = [1, 1, 1, 0], [1, 0, 0, 0], ["a", "b", "c", "d"]
    first, second = (paired_drop(dense, pruned, groups, seed=3) for _ in range(2))
    assert first.mean == 0.5
    assert first == second
    assert first.low < 0.5 < first.high


def test_clusters_widen_the_interval():
    rng = np.random.default_rng(0)
    lost = np.repeat(rng.random(100) < 0.2, 4).astype(float)  # four questions per image fall together
    ones, pruned = np.ones(400), 1 - lost
    alone = paired_drop(ones, pruned, list(range(400)))
    clustered = paired_drop(ones, pruned, [i // 4 for i in range(400)])
    assert clustered.se == pytest.approx(2 * alone.se, rel=0.1)
    assert clustered.high - clustered.low > 1.6 * (alone.high - alone.low)


def test_no_change_still_leaves_doubt():
    drop = paired_drop([1.0] * 50, [1.0] * 50, list(range(50)))
    assert drop.mean == 0
    assert drop.low < 0 < drop.high
    assert 0.01 < drop.se < 0.05


@pytest.mark.parametrize(("lost", "gained"), [(0.03, 0.01), (0.15, 0.05)])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(lost, gained):
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(200):
        draw = rng.random(400)
        dense, pruned = (draw >= gained).astype(float), ((draw < gained) | (draw >= gained + lost)).astype(float)
        interval = paired_drop(dense, pruned, list(range(400)), seed)
        hits += interval.low <= lost - gained <= interval.high
    assert 180 <= hits <= 199


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="as many"):
        paired_drop([1.0], [1.0, 0.0], ["a", "b"])


def test_means_are_of_samples_and_their_intervals_of_groups():
    rng = np.random.default_rng(0)
    groups = [number // 4 for number in range(200)]
    common = rng.normal(size=50)
    values = np.stack([common[groups], rng.normal(size=200)], 1)  # alike within a group; independent
    found = clustered_means(values, groups)
    np.testing.assert_allclose(found.mean, values.mean(0))
    width = (found.high - found.low) / 2
    assert width[0] == pytest.approx(1.96 * common.std() / 50**0.5, rel=0.1)
    assert width[1] == pytest.approx(1.96 * values[:, 1].std() / 200**0.5, rel=0.2)


def test_means_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    values, groups = rng.normal(size=(80, 400)), [number // 2 for number in range(80)]
    found = clustered_means(values, groups)
    assert 0.90 < np.mean((found.low < 0) & (found.high > 0)) < 0.98


def test_means_keep_the_shape_and_leave_holes_where_nothing_is():
    values = np.arange(24.0).reshape(4, 3, 2)
    values[:, 1] = np.nan
    found = clustered_means(values, list("aabb"))
    for part in (found.mean, found.low, found.high):
        assert part.shape == (3, 2)
        assert np.isnan(part[1]).all()
        assert not np.isnan(part[[0, 2]]).any()


@pytest.mark.parametrize("groups", [["a", "a"], ["a", "b", "c"]])
def test_means_without_two_groups_are_refused(groups):
    with pytest.raises(ValueError, match="two groups"):
        clustered_means(np.zeros((2, 1)), groups)


def test_a_curve_has_a_hole_where_a_layer_has_no_figure_and_no_interval_from_one_group():
    values = np.array([[1.0, np.nan], [3.0, np.nan]])
    found = mean_curve(values, ["a", "b"])
    assert (found.mean, found.low, found.high) == ([2.0, None], [1.0, None], [3.0, None])
    alone = mean_curve(values, ["a", "a"])
    assert (alone.mean, alone.low, alone.high) == ([2.0, None], [None, None], [None, None])


def test_bounds_are_close_to_students_where_that_is_exact() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.5, (200, 50))
    exact = values.mean(0) + student.ppf(0.975, 199) * values.std(0, ddof=1) / np.sqrt(200)
    np.testing.assert_allclose(upper_bounds(values, range(200)), exact, rtol=0.02)


def test_bounds_cover_a_skewed_mean_far_better_than_percentiles() -> None:
    draws = np.random.default_rng(0).lognormal(0, 1.0, (64, 400))  # 400 data sets of 64 samples
    truth = np.exp(0.5)
    covered = (upper_bounds(draws, range(64)) >= truth).mean()
    plain = (clustered_means(draws, range(64)).high >= truth).mean()
    assert covered > 0.94
    assert plain < 0.93


def test_bounds_count_groups() -> None:
    values = np.random.default_rng(0).exponential(1.0, (10, 1))
    single = upper_bounds(values, range(10))
    np.testing.assert_allclose(upper_bounds(np.repeat(values, 5, 0), np.repeat(np.arange(10), 5)), single)
    assert upper_bounds(np.repeat(values, 5, 0), range(50)) < single


def test_one_sample_that_carries_all_leaves_no_bound() -> None:
    values = np.zeros((8, 2))
    values[0, 0] = 1.0
    assert upper_bounds(values, range(8)).tolist() == [np.inf, 0.0]


def test_bounds_keep_the_shape_and_refuse_too_few_groups() -> None:
    assert upper_bounds(np.ones((6, 2, 3)), range(6)).shape == (2, 3)
    with pytest.raises(DataError, match="at least 4 groups"):
        upper_bounds(np.ones((6, 2)), [0, 1, 2, 0, 1, 2])
