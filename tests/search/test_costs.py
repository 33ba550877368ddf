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


def test_timing_counts_every_prefill_and_a_share_of_the_dense_one() -> None:
    times = {"batch": 4, "prefills": 10, "together": 3}
    each = [PhaseCost(8, 2.0), PhaseCost(10, 5.0), PhaseCost(1, 0.25)]
    assert timing_cost([(times, cost) for cost in each]) == PhaseCost(160, 40 * (0.25 + 0.5 + 0.25) + 40)
    older = {"batch": 4, "prefill_ms": 1.0}
    assert timing_cost([(older, PhaseCost(8, 2.0))]) == timing_cost([]) == PhaseCost()
