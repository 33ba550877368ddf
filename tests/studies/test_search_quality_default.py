"""The default way of searching, replayed on the committed tables."""

from __future__ import annotations

from statistics import fmean

import benchmark
import pytest
from fronts import worth
from replay import replay
from samplers import SAMPLERS

from autoprune.search.sections import Search


@pytest.mark.parametrize(("name", "seeds"), [("old", 5), ("whole", 1)])
def test_the_default_finds_the_useful_front_with_a_fiftieth_of_the_row_forwards(name: str, seeds: int):
    table, sampler = benchmark.load(name), SAMPLERS[Search().sampler]
    budget = len(table.schedules) * table.rows // 50
    found = [worth(table, replay(table, sampler, seed, budget).whole_at(budget)).useful for seed in range(seeds)]
    assert fmean(found) >= 0.99 * benchmark.exhaustive(name).useful
    assert min(found) >= 0.98 * benchmark.exhaustive(name).useful
