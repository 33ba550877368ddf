"""Searches replayed on a table: what they pay, what they have found, and what the benchmark tells of them."""

from __future__ import annotations

import json
from pathlib import Path

import benchmark
import fronts
import pytest
from replay import replay
from samplers import SAMPLERS
from synthetic_table import ROWS, synthetic_table
from verdicts import Table


@pytest.fixture(scope="module")
def table() -> Table:
    return synthetic_table()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_a_search_pays_for_every_row_once(table: Table, sampler: str, workers: int):
    budget = 40 * ROWS
    steps = replay(table, SAMPLERS[sampler], seed=1, budget=budget, workers=workers).steps
    spent = [step.spent for step in steps]
    assert spent == sorted(spent)
    assert budget <= spent[-1] < budget + workers * ROWS
    whole = [step.place for step in steps if step.whole]
    assert len(set(whole)) == len(whole) >= 10
    assert len({step.place for step in steps}) == steps[-1].begun <= len(table.schedules)


def test_a_space_that_is_used_up_ends_the_search():
    table = synthetic_table(layers=4)
    trajectory = replay(table, SAMPLERS["gp"], seed=0, budget=10**9)
    everything = len(table.schedules)
    assert trajectory.steps[-1].spent == everything * ROWS
    assert sorted(trajectory.whole_at(1e9)) == list(range(everything))
    assert fronts.worth(table, trajectory.whole_at(1e9)) == fronts.worth(table, range(everything))


def test_what_is_found_grows_with_the_budget_and_counts_whole_schedules_only(table: Table):
    trajectory = replay(table, SAMPLERS["gp"], seed=0, budget=30 * ROWS)
    for small, large in ((5 * ROWS, 30 * ROWS), (0, ROWS)):
        assert set(trajectory.whole_at(small)) <= set(trajectory.whole_at(large))
    assert len(trajectory.whole_at(10 * ROWS)) <= 10


def test_the_benchmark_tells_shares_of_the_exhaustive_front(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    synthetic_table(layers=4).save(tmp_path / "small.npz")
    monkeypatch.setattr(benchmark, "HERE", tmp_path)
    monkeypatch.setattr(benchmark, "SHARES", (0.1, 0.5, 1.0))
    monkeypatch.setattr(benchmark, "EVALUATIONS", (5, 10))
    monkeypatch.setattr(benchmark, "SHOWN", 1.0)
    found = [benchmark.search(benchmark.Job("small", "gp", seed)) for seed in (0, 1)]
    results = tmp_path / "results.jsonl"
    results.write_text("".join(json.dumps(record) + "\n" for record in found))
    quality = benchmark.quality_table("small", benchmark.read(results)).splitlines()
    gp = next(line for line in quality if line.startswith("| gp"))
    assert "| 1.000 (1.000) / 1.000 (1.000) |" in gp  # the whole table
    assert quality[-1].startswith("| presets alone (1) | – |")
    cheapest = benchmark.cheapest_table("small", benchmark.read(results)).splitlines()
    exhaustive = [cell.strip() for cell in cheapest[2].split("|")[2:-1]]
    assert [cell.split()[0] for cell in cheapest[3].split("|")[2:-1]] == exhaustive
