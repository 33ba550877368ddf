"""What rounding does to answers on transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprune.engines.vllm.comparison.agreement import disagreement
from autoprune.engines.vllm.comparison.asked import made_up
from autoprune.engines.vllm.comparison.transformers_side import TransformersSide
from autoprune.models.options import ModelOptions
from autoprune.schedule import Schedule

DIGITS = Path(__file__).parents[4] / "studies" / "digit_scenes"


@pytest.fixture(scope="module")
def side() -> TransformersSide:
    return TransformersSide(str(DIGITS / "model"), ModelOptions())


def test_rounding_moves_answers_a_little_and_each_row_alike_in_each_run(side) -> None:
    schedule, samples = Schedule.load(DIGITS / "schedule.json"), made_up(side._loaded.config)[:2]
    before = side.answers(schedule, samples, 2)
    found = side.rounding(schedule, samples, 2)
    assert all(0 < moved < 1e-3 for moved in found)
    assert side.rounding(schedule, samples[1:], 2) == found[1:]  # whatever else is asked
    assert disagreement(before, side.answers(schedule, samples, 2)).largest == 0  # no noise is left
