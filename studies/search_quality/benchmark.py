"""Samplers against each other on the exhaustive tables: what each finds, with how much measuring.

    python studies/search_quality/benchmark.py run --results FILE --processes 2     searches that FILE lacks
    python studies/search_quality/benchmark.py show --results FILE                  the tables of outcome.md

Each search runs once to the largest budget of its table (grid.py) and is looked at on the way. Seeds differ in the
sampler and in which fifth of the single-stage probes is left out. A share is that of the hypervolume of all schedules
of the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any

from fronts import DROPS, Worth, presets_alone, worth
from grid import GRIDS
from replay import Trajectory, replay
from rich.progress import Progress
from samplers import SAMPLERS
from verdicts import Table

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Job:
    """One search to replay."""

    table: str
    sampler: str
    seed: int


@dataclass(frozen=True)
class Budget:
    """Where a search is looked at.

    Attributes:
        kind: `evaluations` or `shares`.
        amount: How many, or which share; with the kind, its name in a file of results.
        title: Of its column.
        row_forwards: What is spent by then.
    """

    kind: str
    amount: str
    title: str
    row_forwards: float


@cache
def load(name: str) -> Table:
    return Table.load(HERE / f"{name}.npz")


@cache
def exhaustive(name: str) -> Worth:
    """What all schedules of a table are worth."""
    return worth(load(name), range(len(load(name).schedules)))


def budgets(name: str) -> list[Budget]:
    """Those of the searches of a table; the last is its largest share."""
    grid, rows, size = GRIDS[name], load(name).rows, len(load(name).schedules)
    counted = [Budget("evaluations", str(n), f"{n} evaluations", n * rows) for n in grid.evaluations]
    return counted + [Budget("shares", str(s), f"{s:.0%} ({round(s * size)})", s * size * rows) for s in grid.shares]


def found_at(name: str, trajectory: Trajectory) -> list[Worth]:
    """The worth of what a search of a table had at each of its budgets."""
    return [worth(load(name), trajectory.whole_at(budget.row_forwards)) for budget in budgets(name)]


def searched(name: str, sampler: str, seed: int) -> Trajectory:
    """One search of a table, replayed to its largest budget."""
    return replay(load(name), SAMPLERS[sampler], seed, int(max(budget.row_forwards for budget in budgets(name))))


def search(job: Job) -> dict[str, Any]:
    """What one search costs, and has found at each budget."""
    load(job.table)  # before the clock runs
    start = time.process_time()
    trajectory = searched(job.table, job.sampler, job.seed)
    seconds = time.process_time() - start
    found: dict[str, dict[str, Any]] = {"shares": {}, "evaluations": {}}
    for budget, had in zip(budgets(job.table), found_at(job.table, trajectory), strict=True):
        found[budget.kind][budget.amount] = vars(had)
    return {**vars(job), "cpu_seconds": seconds, "begun": trajectory.steps[-1].begun, **found}


def run(jobs: Sequence[Job], results: Path, processes: int) -> None:
    """Run the searches that a file lacks; each adds a line."""
    known = {Job(r["table"], r["sampler"], r["seed"]) for r in read(results)} if results.exists() else set()
    waiting = [job for job in jobs if job not in known]
    with ProcessPoolExecutor(processes) as pool, Progress() as progress, results.open("a") as file:
        futures = [pool.submit(search, job) for job in waiting]
        for future in progress.track(as_completed(futures), total=len(futures), description="searches"):
            file.write(json.dumps(future.result()) + "\n")
            file.flush()


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()]


def shares(name: str, found: Sequence[Worth]) -> str:
    """`full` and `useful` share of the exhaustive front, mean (least) over searches."""
    parts = []
    for what in ("full", "useful"):
        values = [getattr(one, what) / getattr(exhaustive(name), what) for one in found]
        parts.append(f"{fmean(values):.3f} ({min(values):.3f})" if len(values) > 1 else f"{values[0]:.3f}")
    return " / ".join(parts)


def quality_table(name: str, records: Sequence[dict[str, Any]]) -> str:
    """Markdown: hypervolume shares by sampler and budget."""
    columns = budgets(name)
    lines = [["sampler", "searches", *(column.title for column in columns)]]
    for sampler, own in by_sampler(name, records).items():
        found = [shares(name, [Worth(**r[column.kind][column.amount]) for r in own]) for column in columns]
        lines.append([sampler, str(len(own)), *found])
    alone = shares(name, [presets_alone(load(name))])
    lines.append([f"presets alone ({len(load(name).presets)})", "–", *[alone] * len(columns)])
    return markdown(lines)


def cheapest_table(name: str, records: Sequence[dict[str, Any]]) -> str:
    """Markdown: FLOPs ratio of the cheapest point within a loss, median (most) over searches, and of all schedules.

    At the largest share of the table.
    """
    last = budgets(name)[-1]
    lines = [["sampler", *(f"drop ≤ {drop:.0%}" for drop in DROPS)]]
    lines.append(["all schedules", *(f"{flops:.3f}" for flops in exhaustive(name).cheapest)])
    for sampler, own in by_sampler(name, records).items():
        columns = zip(*(r[last.kind][last.amount]["cheapest"] for r in own), strict=True)
        lines.append([sampler, *(f"{median(column):.3f} ({max(column):.3f})" for column in columns)])
    lines.append(["presets alone", *(f"{flops:.3f}" for flops in presets_alone(load(name)).cheapest)])
    return markdown(lines)


def by_sampler(name: str, records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The searches of one table."""
    found = {s: [r for r in records if r["table"] == name and r["sampler"] == s] for s in SAMPLERS}
    return {sampler: own for sampler, own in found.items() if own}


def markdown(lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(lines[0])
    return "\n".join("| " + " | ".join(line) + " |" for line in (lines[0], rule, *lines[1:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "show"])
    parser.add_argument("--results", type=Path, required=True, help="one line of JSON for each search")
    parser.add_argument("--tables", nargs="+", choices=list(GRIDS), default=["old", "whole"])
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    given = parser.parse_args()
    if given.command == "run":
        jobs = [Job(*job) for job in product(given.tables, given.samplers, range(given.seeds))]
        run(jobs, given.results, given.processes)
    records = read(given.results)
    for name in given.tables:
        print(f"\n### {name}\n\n{quality_table(name, records)}\n\n{cheapest_table(name, records)}")


if __name__ == "__main__":
    main()
