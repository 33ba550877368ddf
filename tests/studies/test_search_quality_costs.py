"""What studies/search_quality counts on whole studies: row-forwards, and the rate of workers."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import against_grid
import numpy as np
import pytest
import savings
import workers
from support.studies import BACKEND, tiny_spec
from synthetic_table import synthetic_table

from autoprune.data.samples import load_samples
from autoprune.search.driver import run_study
from autoprune.search.pareto import hypervolume


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    run_study(tiny_spec(folder, search={"trials": 12}), backend=BACKEND)
    return folder / "run"


def _asked(folder: Path) -> dict[str, int]:
    """Row-forwards that the workers were asked for, by data set."""
    asked = {"calibration": 0, "validation": 0}
    for line in (folder / "tasks.log").read_text().splitlines():
        _, what, *given = line.split()
        if what in asked:
            rows, *schedules = given
            asked[what] += len(rows.split(",")) * len(schedules)
    return asked


def test_every_row_forward_of_a_study_is_counted_once(run_folder: Path):
    cost = savings.run_cost(run_folder)
    asked = _asked(run_folder.parent)
    assert (cost.calibration, cost.validation) == (asked["calibration"], asked["validation"])
    assert 0 < cost.weighted < cost.row_forwards
    assert 0 < cost.useful < savings.USEFUL
    front = json.loads((run_folder / "front.json").read_text())
    assert cost.useful < cost.full < front["dense"]["validation"]["accuracy"]


def test_a_saving_is_told_with_its_spread(run_folder: Path):
    cost = savings.run_cost(run_folder)
    half = savings.RunCost(cost.calibration // 2, cost.validation // 2, cost.weighted / 2, cost.full, cost.useful)
    told = savings.comparison([cost, cost], [half, half])
    row = next(line for line in told.splitlines() if line.startswith("| row-forwards, all"))
    assert row.endswith("| -50.0% |")
    assert "+0.0000 ± 0.0000" in told


def test_repeated_rows_are_rows_of_their_own(tmp_path: Path):
    rows = load_samples(workers.repeated(3, tmp_path, rows=4))
    assert len({row.id for row in rows}) == 12
    assert len({row.group for row in rows}) == 6  # two questions a scene
    assert len({row.images[0].sha256 for row in rows}) == 2


def test_a_search_ends_before_its_final_measurements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workers, "run_study", functools.partial(run_study, backend=BACKEND))
    spec = tiny_spec(tmp_path, search={"trials": 12, "sampler": "random", "racing": False})
    found = workers.searched(spec)
    assert len(found.finished) == len({schedule.key for schedule in found.schedules}) == 12
    assert found.seconds > 0
    assert _asked(tmp_path)["validation"] == 0


def test_the_study_of_the_workers_can_be_run(tmp_path: Path):
    spec = workers.study(workers.repeated(1, tmp_path, rows=4), 2, 5, tmp_path)
    assert (spec.workers.count, spec.search.trials, spec.search.racing, spec.baselines) == (2, 5, False, ())


def test_a_front_is_judged_on_the_rows_of_the_table(run_folder: Path):
    front = json.loads((run_folder / "front.json").read_text())
    table = dataclasses.replace(
        synthetic_table(), dense=np.ones(128, bool), groups=tuple(f"image{row // 2}" for row in range(128))
    )
    share = against_grid.run_share(run_folder, table, 1.0, 1.0)  # the fake study has as many rows, so nothing is lost
    points = [(point["flops_ratio"], 1 - point["accuracy"]) for point in front["points"]]
    assert share.full == pytest.approx(hypervolume(points, (1.0, 1.0)))
    assert share.evaluations == pytest.approx(front["study"]["costs"]["search"]["row_forwards"] / 128)
    assert share.minutes > 0
    assert "| median |" in against_grid.shown([share])


def test_rows_of_another_file_are_no_rows_of_the_table(run_folder: Path):
    with pytest.raises(SystemExit, match="not measured on the rows of the table"):
        against_grid.run_share(run_folder, dataclasses.replace(synthetic_table(), groups=("x",) * 32), 1.0, 1.0)
