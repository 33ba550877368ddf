"""What whole studies cost, search and final measurements together, one way of searching against another.

    python studies/search_quality/savings.py --before RUN... --after RUN...

RUN is the output folder of a study that is finished; several seeds of the same study file on each side, for example
old_space.yaml under two versions of the package. The cost is counted from what the database holds, so studies of
earlier versions can be compared. A row-forward is one row run through one schedule; weighted by FLOPs, it counts as the
share of a dense prefill that it computes. Timing of the front is on neither side.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from fronts import USEFUL

from autoprune.search.pareto import hypervolume


@dataclass(frozen=True)
class RunCost:
    """Cost and front of one study.

    Attributes:
        calibration: Row-forwards on calibration rows, dense included.
        validation: The same on validation rows.
        weighted: All row-forwards in runs of the dense model.
        full: Hypervolume of the front on validation above accuracy 0.
        useful: The same where at most 10 points are lost.
    """

    calibration: int
    validation: int
    weighted: float
    full: float
    useful: float

    @property
    def row_forwards(self) -> int:
        """On both data sets."""
        return self.calibration + self.validation


def run_cost(run: Path) -> RunCost:
    """Cost and front of a finished study, from its output folder."""
    counts, weighted = {"calibration": 0, "validation": 0}, 0.0
    with sqlite3.connect(f"file:{run / 'study.db'}?mode=ro", uri=True) as database:
        for split, packed in database.execute("SELECT split, results FROM autoprune_evaluations"):
            pack = json.loads(packed)
            counts[split] += len(pack["flops"])
            weighted += sum(a / b for a, b in zip(pack["flops"], pack["flops_dense"], strict=True))
    front = json.loads((run / "front.json").read_text())
    dense = _accuracy(front["dense"])
    points = [(p["flops_ratio"], dense - _accuracy(p)) for p in front["points"] if p["validation"] is not None]
    full, useful = hypervolume(points, (1.0, dense)), hypervolume(points, (1.0, USEFUL))
    return RunCost(counts["calibration"], counts["validation"], weighted, full, useful)


def _accuracy(point: dict[str, Any]) -> float:
    accuracy: float = point["validation"]["accuracy"]
    return accuracy


def comparison(before: Sequence[RunCost], after: Sequence[RunCost]) -> str:
    """Markdown: means over the seeds of both sides, with their standard deviation, and what became of them."""
    lines = ["| | before | after | change |", "|---|---|---|---|"]
    for title, name, digits in (
        ("row-forwards, calibration", "calibration", 0),
        ("row-forwards, validation", "validation", 0),
        ("row-forwards, all", "row_forwards", 0),
        ("weighted by FLOPs (dense passes)", "weighted", 0),
    ):
        old, new = _values(before, name), _values(after, name)
        cells = f"{_cell(old, digits)} | {_cell(new, digits)} | {fmean(new) / fmean(old) - 1:+.1%}"
        lines.append(f"| {title} | {cells} |")
    for title, name in (("hypervolume on validation, full", "full"), ("useful", "useful")):
        old, new = _values(before, name), _values(after, name)
        error = sqrt(_error(old) + _error(new))
        cells = f"{_cell(old, 4)} | {_cell(new, 4)} | {fmean(new) - fmean(old):+.4f} ± {error:.4f} (standard error)"
        lines.append(f"| {title} | {cells} |")
    return "\n".join([*lines, f"\n{len(before)} studies before, {len(after)} after; mean ± standard deviation."])


def _values(runs: Sequence[RunCost], name: str) -> list[float]:
    return [float(getattr(run, name)) for run in runs]


def _cell(values: Sequence[float], digits: int) -> str:
    spread = f" ± {stdev(values):,.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):,.{digits}f}{spread}"


def _error(values: Sequence[float]) -> float:
    """Squared standard error of a mean."""
    return stdev(values) ** 2 / len(values) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, nargs="+", required=True)
    parser.add_argument("--after", type=Path, nargs="+", required=True)
    given = parser.parse_args()
    print(comparison([run_cost(run) for run in given.before], [run_cost(run) for run in given.after]))


if __name__ == "__main__":
    main()
