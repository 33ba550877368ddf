"""Samplers against each other on the exhaustive tables: what each finds, with how much measuring.

    python studies/search_quality/benchmark.py run --results FILE --processes 2     searches that FILE lacks
    python studies/search_quality/benchmark.py show --results FILE                  the tables of outcome.md

Each search runs once to the largest budget and is looked at on the way. Seeds differ in the sampler and in which fifth
of the single-stage probes is left out. A share is that of the hypervolume of all schedules of the table.
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
from replay import Trajectory, replay
from rich.progress import Progress
from samplers import SAMPLERS
from verdicts import Table

HERE = Path(__file__).parent
SHARES = (0.01, 0.02)
"""Budgets: parts of the row-forwards of the whole table."""
EVALUATIONS = (100, 150)
"""Budgets: row-forwards in schedules with all rows."""
SHOWN = 0.02
"""The budget at which the cheapest points are compared."""


@dataclass(frozen=True)
class Job:
    """One search to replay."""

    table: str
    sampler: str
    seed: int


@cache
def load(name: str) -> Table:
    return Table.load(HERE / f"{name}.npz")


@cache
def exhaustive(name: str) -> Worth:
    """What all schedules of a table are worth."""
    return worth(load(name), range(len(load(name).schedules)))


def looked_at(table: Table, trajectory: Trajectory) -> dict[str, Any]:
    """The worth of what a search had at each budget."""
    forwards = len(table.schedules) * table.rows
    spent = {str(share): vars(worth(table, trajectory.whole_at(share * forwards))) for share in SHARES}
    counted = {str(count): vars(worth(table, trajectory.whole_at(count * table.rows))) for count in EVALUATIONS}
    return {"shares": spent, "evaluations": counted}


def search(job: Job) -> dict[str, Any]:
    """Replay one search to the largest budget."""
    table = load(job.table)
    budget = int(max(max(SHARES) * len(table.schedules), *EVALUATIONS) * table.rows)
    start = time.process_time()
    trajectory = replay(table, SAMPLERS[job.sampler], job.seed, budget)
    seconds = time.process_time() - start
    return {**vars(job), "cpu_seconds": seconds, "begun": trajectory.steps[-1].begun, **looked_at(table, trajectory)}


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
    size = len(load(name).schedules)
    budgets = [("evaluations", str(n), f"{n} evaluations") for n in EVALUATIONS]
    budgets += [("shares", str(s), f"{s:.0%} ({round(s * size)})") for s in SHARES]
    lines = [["sampler", "searches", *(title for *_, title in budgets)]]
    for sampler, own in by_sampler(name, records).items():
        found = [shares(name, [Worth(**r[kind][budget]) for r in own]) for kind, budget, _ in budgets]
        lines.append([sampler, str(len(own)), *found])
    alone = shares(name, [presets_alone(load(name))])
    lines.append([f"presets alone ({len(load(name).presets)})", "–", *[alone] * len(budgets)])
    return markdown(lines)


def cheapest_table(name: str, records: Sequence[dict[str, Any]]) -> str:
    """Markdown: FLOPs ratio of the cheapest point within a loss, median (most) over searches, and of all schedules."""
    lines = [["sampler", *(f"drop ≤ {drop:.0%}" for drop in DROPS)]]
    lines.append(["all schedules", *(f"{flops:.3f}" for flops in exhaustive(name).cheapest)])
    for sampler, own in by_sampler(name, records).items():
        columns = zip(*(r["shares"][str(SHOWN)]["cheapest"] for r in own), strict=True)
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
    parser.add_argument("--tables", nargs="+", default=["old", "whole"])
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
