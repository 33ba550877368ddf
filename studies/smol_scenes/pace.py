"""Two workers against one: the same candidates, one torch thread each, in turns on the same two workers.

    python studies/smol_scenes/pace.py --rows 16 --candidates 4 --rounds 3

A turn of one worker gives out one candidate at a time, a turn of two gives out the next as soon as one of them is free.
What the workers do before (loading, answering the rows with the dense model) counts for neither.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "digit_scenes"))

from speed import random_schedule  # noqa: E402

from autoprune.evaluate.timing import take_turns  # noqa: E402
from autoprune.models.config import read_config  # noqa: E402
from autoprune.schedule import ModelIdentity, Schedule  # noqa: E402
from autoprune.search.spec import StudySpec  # noqa: E402
from autoprune.search.workers.protocol import Executor, Task, ignore  # noqa: E402
from autoprune.search.workers.ray import RayExecutor  # noqa: E402

WORKERS = 2


def seconds(executor: Executor, schedules: Sequence[Schedule], rows: int, at_once: int, numbers: count[int]) -> float:
    """Seconds per candidate when at most so many run at a time.

    Raises:
        RuntimeError: a candidate was not measured.
    """
    waiting, running = list(schedules), 0
    start = time.monotonic()
    while waiting or running:
        while waiting and running < at_once:
            executor.submit(Task(next(numbers), "evaluate", (waiting.pop(),), rows=tuple(range(rows))))
            running += 1
        for result in executor.wait(timeout=1.0):
            if result.value is None:
                raise RuntimeError(f"not measured: {result.failure or result.lost or result.bug}")
            running -= 1
    return (time.monotonic() - start) / len(schedules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=HERE, help="folder of model/ and calibration.jsonl")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rng = random.Random(0)
    depth = ModelIdentity.from_config(read_config(given.study / "model"), "model").num_layers
    schedules = [random_schedule(depth, rng) for _ in range(given.candidates)]
    with tempfile.TemporaryDirectory() as folder:
        spec = StudySpec.load(
            {
                "name": "pace",
                "model": {"path": str(given.study / "model")},
                "data": {"calibration": {"path": str(given.study / "calibration.jsonl"), "samples": given.rows}},
                "space": {"criteria": ["last", "text", "visual"]},
                "workers": {"count": WORKERS, "cpus": 1},
                "output": folder,
            }
        )
        executor = RayExecutor(spec, "autoprune.search.workers.engine", ignore)
        try:
            executor.start()
            while executor.free() < WORKERS:
                executor.wait(timeout=1.0)
            numbers = count(1)
            arms = {
                at_once: lambda at_once=at_once: seconds(executor, schedules, given.rows, at_once, numbers)
                for at_once in (1, WORKERS)
            }
            taken = take_turns(arms, given.rounds)
            peak = executor.peak_bytes()
        finally:
            executor.close()
    ratios = [one / two for one, two in zip(taken[1], taken[WORKERS], strict=True)]
    print(f"{given.candidates} candidates of {given.rows} rows, {given.rounds} rounds")
    print(f"seconds per candidate: one worker {median(taken[1]):.2f}, two workers {median(taken[WORKERS]):.2f}")
    print(f"two workers are {median(ratios):.2f} times as fast, {min(ratios):.2f} to {max(ratios):.2f}")
    print(f"largest memory of a worker: {peak / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()
