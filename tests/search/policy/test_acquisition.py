"""The expected growth of a front, against Monte Carlo."""

from __future__ import annotations

import numpy as np
import pytest

from autoprune.search.policy.acquisition import (
    Staircase,
    expected_improvement,
    expected_improvement_at_uncertain_cost,
)

POINTS = [(0.15, 0.12), (0.3, 0.06), (0.3, 0.07), (0.5, 0.08), (0.55, 0.01), (0.9, 0.2), (1.1, -0.1)]
REFERENCE = (1.0, 0.15)


def hypervolume(points: list[tuple[float, float]]) -> float:
    """Area between the points and the reference, on a fine grid of costs."""
    grid = (np.arange(200_000) + 0.5) / 200_000
    level = np.full(len(grid), REFERENCE[1])
    for cost, loss in points:
        level[grid >= cost] = np.minimum(level[grid >= cost], loss)
    return float((REFERENCE[1] - level).mean())


def front() -> Staircase:
    return Staircase.of([cost for cost, _ in POINTS], [loss for _, loss in POINTS], REFERENCE)


def test_the_front_is_the_least_loss_at_every_cost() -> None:
    costs = np.array([0.0, 0.15, 0.2, 0.3, 0.54, 0.55, 0.99])
    assert front().level_at(costs) == pytest.approx([0.15, 0.12, 0.12, 0.06, 0.06, 0.01, 0.01])


@pytest.mark.parametrize("cost", [0.05, 0.2, 0.3, 0.45, 0.7, 0.97])
@pytest.mark.parametrize(("mean", "sd"), [(0.05, 0.03), (0.3, 0.1), (-0.01, 0.001)])
def test_improvement_against_monte_carlo(cost: float, mean: float, sd: float) -> None:
    losses = np.random.default_rng(0).normal(mean, sd, 200_000)
    table = np.linspace(mean - 6 * sd, mean + 6 * sd, 400)
    before = hypervolume(POINTS)
    gains = [hypervolume([*POINTS, (cost, loss)]) - before for loss in table]
    simulated = np.interp(losses, table, gains)
    closed = expected_improvement(front(), np.array([cost]), np.array([mean]), np.array([sd]))[0]
    assert closed == pytest.approx(simulated.mean(), abs=4 * simulated.std() / np.sqrt(len(losses)) + 2e-5)


def test_uncertain_cost_against_monte_carlo() -> None:
    rng = np.random.default_rng(1)
    costs, cost_sd = np.array([0.25, 0.6, 0.4]), np.array([0.05, 0.0, 0.02])
    mean, sd = np.array([0.05, 0.0, 0.1]), np.array([0.02, 0.01, 0.05])
    closed = expected_improvement_at_uncertain_cost(front(), costs, cost_sd, mean, sd)
    drawn = rng.normal(size=(20_000, 1)) * cost_sd + costs
    simulated = np.mean([expected_improvement(front(), one, mean, sd) for one in drawn], axis=0)
    assert closed == pytest.approx(simulated, rel=0.02)
    assert closed[1] == expected_improvement(front(), costs, mean, sd)[1]


def test_beyond_the_reference_nothing_is_gained() -> None:
    at = np.array([1.0, 1.2])
    assert expected_improvement(front(), at, np.full(2, -0.5), np.full(2, 0.1)) == pytest.approx([0, 0])
