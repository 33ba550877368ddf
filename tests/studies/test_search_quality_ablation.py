"""Variants of the default search: each searches otherwise, and leaves the package as it was."""

from __future__ import annotations

import ablation
import pytest
from replay import replay
from samplers import SAMPLERS
from synthetic_table import ROWS, synthetic_table


@pytest.mark.parametrize("name", [name for name in ablation.VARIANTS if name != "default"])
def test_a_variant_searches_otherwise(name: str):
    table, make = synthetic_table(), SAMPLERS["gp"]
    before = replay(table, make, seed=0, budget=60 * ROWS)
    with ablation.variant(name):
        other = replay(table, make, seed=0, budget=60 * ROWS)
    assert other != before
    assert replay(table, make, seed=0, budget=60 * ROWS) == before
