"""Costs before anything is measured: exact where they can be, else an estimate that learns."""

from __future__ import annotations

import numpy as np
import pytest
from support.toy_space import PRICES, ROWS, stage

from autoprune.schedule import Keep, Schedule, Stage, parse_criterion
from autoprune.search.policy.costs import DataCosts

TEXT = parse_criterion("text")


def adaptive(layer: int, mass: float = 0.9) -> Schedule:
    return Schedule(stages=(Stage(layer=layer, keep=Keep(mass=mass), criterion=TEXT),))


def fixed(layer: int, ratio: float) -> Schedule:
    return Schedule(stages=(stage(layer, ratio, "text"),))


def test_fixed_keeps_are_exact() -> None:
    schedules = [fixed(2, 0.35), Schedule(stages=(stage(3, 0.0),))]
    costs = DataCosts(PRICES, ROWS)
    found = costs.estimate("flops", schedules)
    assert found.mean.tolist() == PRICES.flops_ratios(schedules).tolist()
    assert found.sd.tolist() == [0, 0]
    kv = costs.estimate("kv_bytes", schedules)
    assert kv.mean.tolist() == PRICES.kv_ratios(schedules).tolist()
    assert costs.alive(fixed(2, 0.5)) == [64, 32]


def test_adaptive_keeps_are_learned_from_the_same_rule() -> None:
    costs = DataCosts(PRICES, ROWS)
    before = costs.estimate("flops", [adaptive(2), adaptive(3), adaptive(2, 0.5)])
    assert (before.sd > 0.01).all()
    true = float(PRICES.flops_ratios([fixed(2, 0.25)])[0])
    # A longer schedule with the same first stage tells how much that stage keeps.
    longer = Schedule(stages=(*adaptive(2).stages, stage(4, 0.0)))
    seen = Schedule(stages=(*fixed(2, 0.25).stages, stage(4, 0.0)))
    costs.note(longer, {"flops": float(PRICES.flops_ratios([seen])[0])}, ROWS)
    after = costs.estimate("flops", [adaptive(2), adaptive(3), adaptive(2, 0.5)])
    assert after.mean[0] == pytest.approx(true, abs=0.01)
    assert after.sd[0] < before.sd[0] / 4
    assert abs(after.mean[1] - PRICES.flops_ratios([fixed(3, 0.25)])[0]) < 0.02, "same method and rule, next layer"
    assert before.sd[1] > after.sd[1] > after.sd[0]
    assert after.mean[2] == before.mean[2], "another rule"
    assert costs.alive(adaptive(2))[1] == pytest.approx(16, abs=1)


def test_a_measured_adaptive_schedule_costs_what_was_measured() -> None:
    costs = DataCosts(PRICES, ROWS)
    prior = costs.estimate("flops", [adaptive(2)]).sd[0]
    costs.note(adaptive(2), {"flops": 0.5}, ROWS // 2)
    half = costs.estimate("flops", [adaptive(2)])
    costs.note(adaptive(2), {"flops": 0.6}, ROWS // 2)
    whole = costs.estimate("flops", [adaptive(2)])
    assert half.mean[0] == pytest.approx(0.5)
    assert whole.mean[0] == pytest.approx(0.55)
    assert prior > half.sd[0] > 0
    assert whole.sd[0] == 0


def test_times_are_regressed_on_what_was_timed() -> None:
    costs = DataCosts(PRICES, ROWS)
    rng = np.random.default_rng(0)
    schedules = [fixed(layer, ratio) for layer in (1, 2, 3, 4) for ratio in (0.05, 0.35, 0.6)]
    flops = PRICES.flops_ratios(schedules)
    before = costs.estimate("latency", schedules)
    assert before.mean == pytest.approx(flops)
    truth = 0.15 + 0.8 * flops
    for place in rng.permutation(len(schedules))[:8]:
        costs.note(schedules[place], {"latency": float(truth[place])}, ROWS)
    after = costs.estimate("latency", schedules)
    assert np.abs(after.mean - truth).max() < 0.02
    assert after.sd.max() < before.sd.min()
    assert sorted(after.sd)[:8] == [0] * 8, "what was timed is known"
