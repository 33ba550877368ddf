"""The Gaussian process against the formulas of the textbook."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from autoprune.schedule import Keep, Schedule, Stage, parse_criterion
from autoprune.search.policy.gaussian import Observations, Posterior, ProcessFit, fit
from autoprune.search.policy.kernel import Matern, Profiles, method_of
from autoprune.search.policy.protocol import Floats

PROFILES = Profiles(4, ("text", "diversity + merge"))
PARAMETERS = np.array([-1.0, -0.5, 0.3, -0.2, -1.5, -4.0, -3.0])


def points(count: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=(count, PROFILES.size)) * 2


def direct(kernel: Matern, a: Floats, b: Floats) -> Floats:
    """Covariances of two sets of points by their definition, one pair at a time."""
    found = np.empty((len(a), len(b)))
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            r = np.sqrt(5 * (kernel.weights * (p - q) ** 2).sum())
            found[i, j] = kernel.signal * (1 + r + r * r / 3) * np.exp(-r)
            found[i, j] += kernel.linear * (kernel.weights * p * q).sum()
    return found


def test_features_tell_where_tokens_leave_and_who_drops_them() -> None:
    text, diversity = parse_criterion("text"), parse_criterion("diversity")
    stages = (
        Stage(layer=1, keep=Keep(ratio=0.5), criterion=diversity, merge="mean"),
        Stage(layer=2, keep=Keep(ratio=0.1), criterion=text),
        Stage(layer=3, keep=Keep(ratio=0.0)),
    )
    assert [method_of(stage) for stage in stages] == ["diversity + merge", "text", None]
    x = PROFILES.of(Schedule(stages=stages), [56, 24, 8, 0])
    assert x == pytest.approx([0, -1, -2, -3, 1, 1, 0])
    other = Stage(layer=1, keep=Keep(ratio=0.5), criterion=parse_criterion("last"))
    assert PROFILES.of(Schedule(stages=(other,)), [56, 24])[-3:] == pytest.approx([0, 0, 1])


def test_effects_that_add_up_carry_over_to_combinations_of_them() -> None:
    x = np.zeros((8, PROFILES.size))
    x[1:4, 0] = x[4:7, 3] = [-2, -4, -6]
    x[7, [0, 3]] = -6  # both at once: never seen
    losses = np.array([0, 0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    process = fit(PROFILES, Observations(x[:7], losses, np.full(7, 1e-6)))
    found = Posterior(process, x, np.arange(7), losses, np.full(7, 1e-6))
    assert found.mean[7] == pytest.approx(0.6, abs=0.05)
    assert found.sd[7] > 3 * found.sd[1]


def test_slopes_of_the_covariance() -> None:
    x, weights = points(5), np.random.default_rng(3).normal(size=(5, 5))
    _, slopes = Matern(PROFILES, PARAMETERS).covariance_and_slopes(x)

    def total(parameters: Floats) -> float:
        return float((Matern(PROFILES, parameters).covariance_and_slopes(x)[0] * weights).sum())

    expected = approx_fprime(PARAMETERS, total, 1e-6)
    assert [float((slope * weights).sum()) for slope in slopes] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_posterior_is_that_of_the_formula_whether_data_come_at_once_or_one_by_one() -> None:
    kernel, pool = Matern(PROFILES, PARAMETERS), points(9)
    places, y, noise = np.array([4, 0, 7]), np.array([0.3, -0.1, 0.2]), np.array([1e-6, 0.01, 0.05])
    prior = direct(kernel, pool, pool) + kernel.nugget * np.eye(9)
    k = prior[np.ix_(places, places)] + np.diag(noise)
    mean = 0.1 + prior[:, places] @ np.linalg.solve(k, y - 0.1)
    variance = np.diag(prior) - np.einsum("ij,ji->i", prior[:, places], np.linalg.solve(k, prior[places]))
    at_once = Posterior(ProcessFit(kernel, 0.1), pool, places, y, noise)
    one_by_one = Posterior(ProcessFit(kernel, 0.1), pool, places[:1], y[:1], noise[:1])
    state = one_by_one.copy_state()
    before = one_by_one.mean.copy()
    for i in (1, 2):
        one_by_one.add(int(places[i]), float(y[i]), float(noise[i]))
    for found in (at_once, one_by_one):
        assert found.mean == pytest.approx(mean)
        assert found.sd**2 == pytest.approx(variance, abs=1e-7)
    one_by_one.rewind(state)
    assert one_by_one.mean == pytest.approx(before)


def test_a_candidate_seen_twice_counts_with_both() -> None:
    kernel, pool = Matern(PROFILES, PARAMETERS), points(3)
    twice = Posterior(ProcessFit(kernel, 0.0), pool, np.array([1]), np.array([0.5]), np.array([0.2]))
    twice.add(1, 0.3, 0.2)
    once = Posterior(ProcessFit(kernel, 0.0), pool, np.array([1]), np.array([0.4]), np.array([0.1]))
    assert twice.mean == pytest.approx(once.mean)
    assert twice.sd == pytest.approx(once.sd)


def test_the_fit_is_more_probable_than_what_made_the_data() -> None:
    truth, x = Matern(PROFILES, PARAMETERS), points(60)
    noise = np.full(60, 1e-4)
    covariance = truth.covariance_and_slopes(x)[0] + np.diag(noise)
    y = np.random.default_rng(5).multivariate_normal(np.full(60, 0.2), covariance)
    found = fit(PROFILES, Observations(x, y, noise))

    def likelihood(kernel: Matern, mean: float) -> float:
        k = kernel.covariance_and_slopes(x)[0] + np.diag(noise)
        return float(multivariate_normal(np.full(60, mean), k).logpdf(y))

    assert likelihood(found.kernel, found.mean) > likelihood(truth, 0.2) - 3
    assert found.kernel.signal == pytest.approx(truth.signal, rel=2)


def test_supposing_candidates_at_once_is_adding_them_one_by_one_as_expected() -> None:
    kernel, x = Matern(PROFILES, PARAMETERS), points(40)
    y, noise = np.random.default_rng(1).normal(size=12), np.linspace(0, 0.1, 12) + 1e-6
    at_once, single = (Posterior(ProcessFit(kernel, 0.2), x, np.arange(12), y, noise) for _ in range(2))
    running = [30, 5, 20, 33]  # one of them was observed in part
    state = at_once.copy_state()
    at_once.suppose(running, 1e-6)
    for place in running:
        single.add(place, float(single.mean[place]), 1e-6)
    assert at_once.mean == pytest.approx(single.mean, abs=1e-6)
    assert at_once.variance == pytest.approx(single.variance, abs=1e-6)
    assert at_once.sd[30] < 0.1 * np.sqrt(state[2][30])
    at_once.rewind(state)
    assert at_once.variance is state[2]
