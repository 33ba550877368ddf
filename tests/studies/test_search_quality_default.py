"""The default way of searching, replayed on the committed tables."""

from __future__ import annotations

import benchmark
import pytest
from fronts import worth
from replay import replay
from samplers import SAMPLERS

from autoprune.search.sections import Search


@pytest.mark.parametrize("name", sorted(path.stem for path in benchmark.HERE.glob("*.npz")))
def test_the_default_finds_the_useful_front_with_a_fiftieth_of_the_row_forwards(name: str):
    table, sampler = benchmark.load(name), SAMPLERS[Search().sampler]
    budget = len(table.schedules) * table.rows // 50
    for seed in range(3):
        found = worth(table, replay(table, sampler, seed, budget).whole_at(budget))
        assert found.useful >= 0.99 * benchmark.exhaustive(name).useful, (seed, found)
