"""How far one driver and one queue carry: many simulated workers, many trials, many studies.

    python studies/scale/run.py search                        # 64 workers, 5,000 trials, SQLite
    python studies/scale/run.py search --postgres             # the same on a real PostgreSQL
    python studies/scale/run.py queue --runners 8             # 200 studies queued, and a reader of the api
    python studies/scale/run.py queue --runners 8 --postgres

The driver, the policy, the loop, the ledger and the api are the real ones; workers sleep, and verdicts follow a law.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parents[1]), str(HERE.parents[1] / "tests")]

from searching import Row, Watch, database_size, search, study  # noqa: E402
from support.postgres import postgres_programs, running_postgres  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("search", "queue"))
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--trials", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--sampler", default="gp")
    parser.add_argument("--seconds", type=float, default=1.0, help="mean time of a task")
    parser.add_argument("--every", type=int, default=500, help="trials of a row of the table")
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--runners", type=int, default=8)
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = None
        if given.postgres:
            programs = postgres_programs()
            if programs is None:
                sys.exit("no PostgreSQL is installed")
            url = stack.enter_context(running_postgres(programs)).new_database()
        if given.what == "search":
            _search(given, folder, url)
        else:
            from queueing import queue

            queue(folder, url, given.studies, given.runners)


def _search(given: argparse.Namespace, folder: Path, url: str | None) -> None:
    spec = study(folder, given.trials, given.workers, given.sampler, url)
    columns = (
        "trials",
        "trials/s",
        "ask ms",
        "asks per trial",
        "tell ms",
        "CPU ms per trial",
        "memory MB",
        "database MB",
    )
    print(f"| {' | '.join(columns)} |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    watch = Watch(given.every, database_size(spec), _show)
    begun, profile = time.monotonic(), cProfile.Profile()
    if given.profile:
        profile.enable()
    outcome = search(spec, given.seconds, watch)
    profile.disable()
    print(f"{time.monotonic() - begun:.0f} s in all; {outcome.counts}; {len(outcome.front.points)} points")
    if given.profile:
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)


def _show(row: Row) -> None:
    figures = (f"{row.trials:,}", f"{row.rate:.1f}", f"{row.ask:.0f}", f"{row.asks:.1f}",
               f"{row.tell:.1f}", f"{row.cpu:.0f}", f"{row.memory:.0f}", f"{row.database:.1f}")  # fmt: skip
    print(f"| {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
