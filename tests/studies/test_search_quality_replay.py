"""Searches replayed on a table: what they pay, what they have found, and what the benchmark tells of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import benchmark
import fronts
import pytest
from grid import GRIDS, Grid
from replay import replay
from samplers import SAMPLERS
from synthetic_table import ROWS, synthetic_table
from verdicts import Table

Put = Callable[[str, Table, tuple[int, ...], tuple[float, ...]], None]


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


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Put]:
    """Puts a table, with budgets of its own, where the benchmark finds it."""
    monkeypatch.setattr(benchmark, "HERE", tmp_path)

    def put(name: str, table: Table, evaluations: tuple[int, ...], shares: tuple[float, ...]) -> None:
        table.save(tmp_path / f"{name}.npz")
        monkeypatch.setitem(GRIDS, name, Grid(table.space, tmp_path, table.rows, evaluations, shares))

    yield put
    benchmark.load.cache_clear()
    benchmark.exhaustive.cache_clear()


def searched(results: Path, *jobs: benchmark.Job) -> None:
    """Writes the file that `benchmark.py run` would write."""
    results.write_text("".join(json.dumps(benchmark.search(job)) + "\n" for job in jobs))


def test_the_benchmark_tells_shares_of_the_exhaustive_front(put: Put, tmp_path: Path):
    put("small", synthetic_table(layers=4), (5, 10), (0.1, 0.5, 1.0))
    results = tmp_path / "results.jsonl"
    searched(results, *(benchmark.Job("small", "gp", seed) for seed in (0, 1)))
    quality = benchmark.quality_table("small", benchmark.read(results)).splitlines()
    gp = next(line for line in quality if line.startswith("| gp"))
    assert "| 1.000 (1.000) / 1.000 (1.000) |" in gp  # the whole table
    assert quality[-1].startswith("| presets alone (1) | – |")
    cheapest = benchmark.cheapest_table("small", benchmark.read(results)).splitlines()
    exhaustive = [cell.strip() for cell in cheapest[2].split("|")[2:-1]]
    assert [cell.split()[0] for cell in cheapest[3].split("|")[2:-1]] == exhaustive


def test_every_table_is_shown_at_budgets_of_its_own(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    small, large = synthetic_table(layers=4), synthetic_table(layers=6)
    put("small", small, (), (0.25, 0.5))
    put("large", large, (20,), (0.1,))
    results = tmp_path / "results.jsonl"
    searched(results, *(benchmark.Job(name, "random", seed) for name in ("small", "large") for seed in (0, 1)))
    given = ["show", "--results", str(results), "--tables", "small", "large"]
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *given])
    benchmark.main()
    shown = capsys.readouterr().out.splitlines()
    quarter, half, tenth = (round(len(t.schedules) * s) for t, s in ((small, 0.25), (small, 0.5), (large, 0.1)))
    assert f"| sampler | searches | 25% ({quarter}) | 50% ({half}) |" in shown
    assert f"| sampler | searches | 20 evaluations | 10% ({tenth}) |" in shown
    assert sum(line.startswith("| random | 2 |") for line in shown) == 2


def test_no_search_goes_on_beyond_the_largest_budget_of_its_table(put: Put):
    put("small", synthetic_table(layers=4), (), (0.25, 0.5))
    spent = benchmark.searched("small", "random", 0).steps[-1].spent
    half = len(benchmark.load("small").schedules) * ROWS / 2
    assert half - 1 <= spent < half + ROWS
