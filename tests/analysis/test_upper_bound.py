"""The upper bound holds where a few samples carry the mean, and a plain bootstrap would not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from autoprune.analysis.upper_bound import upper_bounds
from autoprune.errors import DataError
from autoprune.evaluate.statistics import clustered_means


def test_close_to_students_where_that_is_exact() -> None:
    values = np.random.default_rng(0).normal(1.0, 0.5, (200, 50))
    exact = values.mean(0) + student.ppf(0.975, 199) * values.std(0, ddof=1) / np.sqrt(200)
    np.testing.assert_allclose(upper_bounds(values, range(200)), exact, rtol=0.02)


def test_covers_a_skewed_mean_far_better_than_percentiles() -> None:
    draws = np.random.default_rng(0).lognormal(0, 1.0, (64, 400))  # 400 data sets of 64 samples
    truth = np.exp(0.5)
    covered = (upper_bounds(draws, range(64)) >= truth).mean()
    plain = (clustered_means(draws, range(64))[2] >= truth).mean()
    assert covered > 0.94
    assert plain < 0.93


def test_groups_are_what_counts() -> None:
    values = np.random.default_rng(0).exponential(1.0, (10, 1))
    single = upper_bounds(values, range(10))
    np.testing.assert_allclose(upper_bounds(np.repeat(values, 5, 0), np.repeat(np.arange(10), 5)), single)
    assert upper_bounds(np.repeat(values, 5, 0), range(50)) < single


def test_one_sample_that_carries_all_leaves_no_bound() -> None:
    values = np.zeros((8, 2))
    values[0, 0] = 1.0
    assert upper_bounds(values, range(8)).tolist() == [np.inf, 0.0]


def test_shapes_and_too_few_groups() -> None:
    assert upper_bounds(np.ones((6, 2, 3)), range(6)).shape == (2, 3)
    with pytest.raises(DataError, match="at least 4 groups"):
        upper_bounds(np.ones((6, 2)), [0, 1, 2, 0, 1, 2])
