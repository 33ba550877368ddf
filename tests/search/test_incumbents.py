"""Which measured point a candidate is raced against."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from support import fake_backend
from support.studies import tiny_spec

from autoprune import presets
from autoprune.evaluate.results import SampleResult
from autoprune.search.incumbents import Incumbents

GROUPS = [f"image{i}" for i in range(128)]


def results(correct: float, flops: int) -> list[SampleResult]:
    fields = dataclasses.asdict(fake_backend.sample("calibration", presets.vtw(3), 0))
    return [SampleResult(**{**fields, "index": i, "correct": correct, "flops": flops}) for i in range(128)]


def test_the_best_of_those_that_cost_no_more_wins(tmp_path: Path) -> None:
    incumbents = Incumbents(tiny_spec(tmp_path), GROUPS)
    incumbents.add("good", results(0.9, flops=100), None)
    incumbents.add("best", results(1.0, flops=100), None)
    incumbents.add("dear", results(1.0, flops=900), None)
    assert incumbents.winner_over(results(0.0, flops=100)[:64], None) == "best"
    assert incumbents.winner_over(results(0.0, flops=99)[:64], None) is None, "all of them cost more"
    assert incumbents.winner_over(results(1.0, flops=100)[:64], None) is None, "a tie is no defeat"


def test_few_samples_stop_nobody(tmp_path: Path) -> None:
    incumbents = Incumbents(tiny_spec(tmp_path), GROUPS)
    incumbents.add("best", results(1.0, flops=100), None)
    assert incumbents.winner_over(results(0.0, flops=100)[:4], None) is None


def test_the_cheaper_time_counts_where_time_is_the_cost(tmp_path: Path) -> None:
    incumbents = Incumbents(tiny_spec(tmp_path, objectives=["latency", "accuracy"]), GROUPS)
    incumbents.add("fast", results(1.0, flops=1), {"prefill_ms": 1.0, "prefill_dense_ms": 10.0})
    slower, faster = ({"prefill_ms": ms, "prefill_dense_ms": 10.0} for ms in (2.0, 0.5))
    assert incumbents.winner_over(results(0.0, flops=1)[:64], slower) == "fast"
    assert incumbents.winner_over(results(0.0, flops=1)[:64], faster) is None
