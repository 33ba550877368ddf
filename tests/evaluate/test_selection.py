from __future__ import annotations

import numpy as np
import pytest
from support.losses import DROPS, FLOPS, front_losses, group_names

from autoprune.evaluate.losses import GroupedLosses
from autoprune.evaluate.selection import NONE, best_among, cheapest_within, selected

ONCE = np.ones((1, 3))


def three(*columns: list[float]) -> GroupedLosses:
    return GroupedLosses.of(np.array(columns).T, "abc")


def test_the_cheapest_within_all_bounds_is_chosen():
    whole, task = three([0, 0, 0], [1, 0, 0], [1, 1, 0]), three([0, 0, 0], [0, 1, 1], [0, 0, 0])
    costs = np.array([0.9, 0.5, 0.3])
    assert cheapest_within([(whole, 2 / 3)], costs)(ONCE) == 2
    assert cheapest_within([(whole, 0.5)], costs)(ONCE) == 1
    assert cheapest_within([(whole, 0.5), (task, 0.1)], costs)(ONCE) == 0
    assert cheapest_within([(three([1, 1, 1]), 0.5)], costs[:1])(ONCE) == NONE


def test_the_best_within_a_budget_is_chosen_and_the_cheaper_of_equals():
    losses = three([0, 0, 0], [1, 0, 0], [0, 1, 0])
    costs = np.array([0.9, 0.5, 0.3])
    assert best_among(losses, costs, costs <= 1)(ONCE) == 0
    assert best_among(losses, costs, costs <= 0.6)(ONCE) == 2
    assert best_among(losses, costs, costs <= 0.1)(ONCE) == NONE


def test_the_claim_of_a_chosen_schedule_is_corrected_and_its_risk_said():
    rng, seeming, claimed, risks, broken = np.random.default_rng(0), [], [], [], []
    for draw in range(120):
        bound = (0.008, 0.012, 0.02, 0.04)[draw % 4]
        losses = GroupedLosses.of(front_losses(rng, 256), group_names(256))
        found = selected(cheapest_within([(losses, bound)], FLOPS), losses, [(losses, bound)], resamples=500)
        assert found is not None
        off = losses.drops()[0, found.schedule] - DROPS[found.schedule]
        seeming.append(off)
        claimed.append(off + found.optimism)
        risks.append(found.risk)
        broken.append(DROPS[found.schedule] > bound)
    error = np.std(claimed) / np.sqrt(len(claimed))
    assert np.mean(seeming) < -0.002
    assert abs(np.mean(claimed)) <= 0.001 + 2 * error
    assert np.mean(risks) == pytest.approx(np.mean(broken), abs=0.15)


def test_a_choice_without_a_rival_needs_no_correction():
    losses = GroupedLosses.of(front_losses(np.random.default_rng(1), 256)[:, :1], group_names(256))
    found = selected(best_among(losses, FLOPS[:1], np.array([True])), losses)
    assert found is not None
    assert found.optimism == pytest.approx(0.0, abs=3e-4)
    assert found.risk is None


def test_where_nothing_qualifies_nothing_is_selected():
    losses = three([1, 1, 1])
    assert selected(cheapest_within([(losses, 0.5)], np.ones(1)), losses) is None
