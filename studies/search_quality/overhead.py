"""What the driver needs for a trial besides measuring it: ask, tell, and everything that is written.

    python studies/search_quality/overhead.py --trials 1000

A study of the old space that is answered from the table, in the driver's own process: the time between two finished
trials is the driver's, with the look into the table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import table_backend
from grid import GRIDS
from workers import STUDY, SearchEndedError

from autoprune.search.driver import run_study
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import Event

SHOWN = 100
"""Trials over which times are summed up."""


def study(trials: int, sampler: str, folder: Path) -> StudySpec:
    """A study of the old space."""
    space = GRIDS["old"].space
    content: dict[str, Any] = {
        "name": "overhead",
        "model": {"path": str(STUDY / "model")},
        "data": {"calibration": {"path": str(STUDY / "calibration.jsonl")}},
        "space": {
            "layers": list(space.layers),
            "keep": list(space.keep),
            "criteria": list(space.methods),
            "max_stages": space.max_stages,
        },
        "baselines": [],
        "search": {"sampler": sampler, "trials": trials},
        "workers": {"count": 0},
        "output": str(folder / "run"),
    }
    return StudySpec.load(content)


class Clock:
    """Listens to a study and notes the driver's time at each trial that ends."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def listen(self, event: Event) -> None:
        """Notes wall and CPU time; ends the study where its search ends."""
        if event.kind == "trial":
            self.marks.append((time.perf_counter(), time.process_time()))
        elif event.kind == "phase" and self.marks:
            raise SearchEndedError

    def milliseconds(self, first: int, last: int) -> tuple[float, float]:
        """Median wall and CPU time between two of these trials."""
        pairs = zip(self.marks[first:last], self.marks[first + 1 : last + 1], strict=False)
        wall, cpu = zip(*((b[0] - a[0], b[1] - a[1]) for a, b in pairs), strict=True)
        return 1000 * median(wall), 1000 * median(cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--sampler", default="gp")
    given = parser.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as name, suppress(SearchEndedError):
        run_study(study(given.trials, given.sampler, Path(name)), on_event=clock.listen, backend=table_backend.__name__)
    for last in range(SHOWN, len(clock.marks) + 1, SHOWN):
        wall, cpu = clock.milliseconds(last - SHOWN, last)
        print(f"trials {last - SHOWN} to {last}: {wall:.0f} ms each (median), {cpu:.0f} ms of CPU", flush=True)


if __name__ == "__main__":
    main()
