"""Intervals against published values, scipy, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from autoprune.evaluate.statistics import clustered_means, paired_drop, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (10, 10), (81, 263), (1, 2), (500, 512)])
def test_wilson_is_scipys(successes, n):
    theirs = binomtest(successes, n).proportion_ci(method="wilson")
    assert wilson(successes, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0.0, 1.0)


def test_drop_is_dense_minus_pruned_and_the_same_for_the_same_seed():
    dense, pruned, groups = [1, 1, 1, 0], [1, 0, 0, 0], ["a", "b", "c", "d"]
    first, second = (paired_drop(dense, pruned, groups, seed=3) for _ in range(2))
    assert first.estimate == 0.5
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
    assert drop.estimate == 0
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
    mean, low, high = clustered_means(values, groups)
    np.testing.assert_allclose(mean, values.mean(0))
    width = (high - low) / 2
    assert width[0] == pytest.approx(1.96 * common.std() / 50**0.5, rel=0.1)
    assert width[1] == pytest.approx(1.96 * values[:, 1].std() / 200**0.5, rel=0.2)


def test_means_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    values, groups = rng.normal(size=(80, 400)), [number // 2 for number in range(80)]
    _, low, high = clustered_means(values, groups)
    assert 0.90 < np.mean((low < 0) & (high > 0)) < 0.98


def test_means_keep_the_shape_and_leave_holes_where_nothing_is():
    values = np.arange(24.0).reshape(4, 3, 2)
    values[:, 1] = np.nan
    for part in clustered_means(values, list("aabb")):
        assert part.shape == (3, 2)
        assert np.isnan(part[1]).all()
        assert not np.isnan(part[[0, 2]]).any()


@pytest.mark.parametrize("groups", [["a", "a"], ["a", "b", "c"]])
def test_means_without_two_groups_are_refused(groups):
    with pytest.raises(ValueError, match="two groups"):
        clustered_means(np.zeros((2, 1)), groups)
