"""How much faster two workers search than one: the same candidates, one torch thread each, on idle cores.

    python studies/search_quality/workers.py --trials 40 --repeats 10

The rows are those of digit_scenes' calibration file, repeated under own ids and groups so that a candidate takes
seconds. The candidates are the same on both sides: a random sampler with one seed, no racing, nothing tried before.
The time is that between the first and the last finished candidate; what starts up before counts for neither side.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from autoprune.data.samples import load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.models.loading import load_model
from autoprune.schedule import Schedule
from autoprune.search.driver import run_study
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import Event

STUDY = Path(__file__).parent.parent / "digit_scenes"
TIMED = 9
"""Candidates whose CPU time is measured one by one."""


class SearchEndedError(Exception):
    """Ends a study before its final measurements."""


@dataclass
class Searched:
    """What was seen of one search.

    Attributes:
        finished: Time at which each candidate was finished, in seconds.
        schedules: The candidates.
    """

    finished: list[float]
    schedules: list[Schedule]

    @property
    def seconds(self) -> float:
        """Seconds per candidate."""
        return (self.finished[-1] - self.finished[0]) / (len(self.finished) - 1)


def repeated(repeats: int, folder: Path, rows: int | None = None) -> Path:
    """The calibration rows, each several times under own ids and groups."""
    lines = (STUDY / "calibration.jsonl").read_text().splitlines()[:rows]
    path = folder / "calibration.jsonl"
    with path.open("w") as file:
        for copy in range(repeats):
            for line in lines:
                row = json.loads(line)
                own = {name: f"{row[name]}-{copy}" for name in ("id", "group")}
                file.write(json.dumps({**row, **own, "image": str(STUDY / row["image"])}) + "\n")
    return path


def study(data: Path, workers: int, trials: int, folder: Path) -> StudySpec:
    """A study that searches at random over the default space."""
    content: dict[str, Any] = {
        "name": f"workers-{workers}",
        "model": {"path": str(STUDY / "model")},
        "data": {"calibration": {"path": str(data)}},
        "baselines": [],
        "search": {"sampler": "random", "trials": trials, "racing": False},
        "workers": {"count": workers, "cpus": 1},
        "output": str(folder / f"run-{workers}"),
    }
    return StudySpec.load(content)


def searched(spec: StudySpec) -> Searched:
    """Run the search of a study, without its final measurements."""
    found = Searched([], [])

    def listen(event: Event) -> None:
        if event.kind == "trial" and event.data["state"] == "COMPLETE":
            found.finished.append(time.monotonic())
            found.schedules.append(Schedule.model_validate(event.data["schedule"]))
        elif event.kind == "phase" and found.finished:
            raise SearchEndedError

    with suppress(SearchEndedError):
        run_study(spec, on_event=listen)
    return found


def cpu_seconds(data: Path, schedules: Sequence[Schedule]) -> float:
    """CPU time of the median candidate, each measured alone on all rows in this process, on one thread."""
    torch.set_num_threads(1)
    criteria = dict.fromkeys(s.criterion for schedule in schedules for s in schedule.stages if s.criterion)
    evaluator = Evaluator(load_model(STUDY / "model"), load_samples(data), criteria=list(criteria))
    evaluator.prepare()
    taken = []
    for schedule in schedules:
        start = time.process_time()
        evaluator.evaluate(schedule)
        taken.append(time.process_time() - start)
    return median(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=10, help="copies of the 256 rows")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = repeated(given.repeats, folder)
        one, two = (searched(study(data, workers, given.trials, folder)) for workers in (1, 2))
        same = {s.key for s in one.schedules} == {s.key for s in two.schedules}
        cpu = cpu_seconds(data, one.schedules[:TIMED])
    print(f"{len(one.schedules)} candidates, {'the same' if same else 'NOT the same'} on both sides")
    print(f"median candidate: {cpu:.1f} s of CPU on {given.repeats * 256} rows ({TIMED} measured alone)")
    print(f"one worker {one.seconds:.2f} s per candidate, two {two.seconds:.2f} s: {one.seconds / two.seconds:.2f} x")


if __name__ == "__main__":
    main()
