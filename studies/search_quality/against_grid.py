"""The front of a whole study beside all schedules of the `whole` table, on the rows that the table has.

    python studies/search_quality/against_grid.py RUN...

RUN is the output folder of a finished study of digit_scenes; several seeds give a median. The points were chosen on all
calibration rows of the study; here they are judged on the first rows alone, as the table is. A study may hold more than
one: it may use layers, methods and third stages that the table does not have.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from benchmark import exhaustive, load, markdown
from fronts import worth_of
from verdicts import Table

from autoprune.schedule import Schedule

TABLE = "whole"


@dataclass(frozen=True)
class RunShare:
    """What a study found, as shares of the hypervolumes of the table.

    Attributes:
        full: Above accuracy 0.
        useful: Where at most 10 points are lost.
        evaluations: Row-forwards of the search by the number of calibration rows.
        minutes: Of the whole run.
    """

    full: float
    useful: float
    evaluations: float
    minutes: float


def run_share(run: Path, table: Table, full: float, useful: float) -> RunShare:
    """What a finished study found.

    Args:
        run: Its output folder.
        table: The table.
        full: Hypervolume of all schedules of the table.
        useful: The useful one.

    Raises:
        SystemExit: the first rows of the study are not those of the table.
    """
    front = json.loads((run / "front.json").read_text())
    keys = [Schedule.model_validate(point["schedule"]).key for point in front["points"]]
    with sqlite3.connect(f"file:{run / 'study.db'}?mode=ro", uri=True) as database:
        packs = database.execute("SELECT schedule_key, results FROM autoprune_evaluations WHERE split = 'calibration'")
        known: dict[str, dict[int, tuple[float, int, int]]] = {}
        for key, packed in packs:
            pack = json.loads(packed)
            rows = zip(pack["index"], pack["group"], pack["correct"], pack["flops"], pack["flops_dense"], strict=True)
            for index, group, correct, flops, dense in rows:
                if index < table.rows:
                    if group != table.groups[index]:
                        raise SystemExit(f"against_grid.py: {run} was not measured on the rows of the table")
                    known.setdefault(key, {})[index] = correct, flops, dense
    every = range(table.rows)
    verdicts = np.array([[known[key][row][0] > 0 for row in every] for key in keys]).reshape(len(keys), table.rows)
    ratios = [sum(known[key][row][1] for row in every) / sum(known[key][row][2] for row in every) for key in keys]
    found, study = worth_of(np.array(ratios), verdicts, table.dense), front["study"]
    evaluations = study["costs"]["search"]["row_forwards"] / study["data"]["calibration"]["samples"]
    return RunShare(found.full / full, found.useful / useful, evaluations, study["seconds"] / 60)


def shown(runs: Sequence[RunShare]) -> str:
    """Markdown: the studies, and their median."""
    lines = [["study", "full", "useful", "evaluations", "minutes"]]
    middle = RunShare(*(median(getattr(run, name) for run in runs) for name in vars(runs[0])))
    for name, run in [*((str(number), run) for number, run in enumerate(runs)), ("median", middle)]:
        lines.append([name, f"{run.full:.4f}", f"{run.useful:.4f}", f"{run.evaluations:.0f}", f"{run.minutes:.1f}"])
    return markdown(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    whole = exhaustive(TABLE)
    print(shown([run_share(run, load(TABLE), whole.full, whole.useful) for run in parser.parse_args().runs]))


if __name__ == "__main__":
    main()
