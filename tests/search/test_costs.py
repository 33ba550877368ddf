import pytest
from support.fake_backend import cost, sample

from autoprune import presets
from autoprune.search.costs import PhaseCost, cost_of, timing_cost

FASTV = presets.fastv(layer=4, keep=0.5)


def test_a_row_counts_once_and_weighs_what_it_costs() -> None:
    found = cost_of([sample("validation", FASTV, row) for row in range(10)])
    assert found.row_forwards == 10
    assert found.dense_equivalents == pytest.approx(10 * cost(FASTV), rel=1e-4)
    assert found + found == PhaseCost(20, 2 * found.dense_equivalents)


def test_timing_counts_every_prefill_and_the_dense_arm() -> None:
    times = {FASTV.key: {"batch": 4, "prefills": 10}}
    assert timing_cost(times, {FASTV.key: PhaseCost(8, 2.0)}) == PhaseCost(80, 40 * 0.25 + 40)
    assert timing_cost({}, {}) == PhaseCost()
