from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from support import fake_backend
from support.studies import BACKEND, tiny_spec

from autoprune import presets
from autoprune.schedule import Schedule
from autoprune.search.driver import run_study
from autoprune.search.front import FrontFile
from autoprune.search.verdicts import RowVerdicts, pack, unpack

ROWS = fake_backend.SIZES["validation"]
VTW = presets.for_depth("vtw", fake_backend.LAYERS)


def results(schedule: Schedule) -> list:
    return [fake_backend.sample("validation", schedule, i) for i in range(ROWS)]


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 512])
def test_packed_verdicts_come_back(rows):
    verdicts = np.random.default_rng(rows).integers(0, 2, rows)
    packed = pack(verdicts)
    assert len(packed) <= 2 * (rows // 8 + 1)
    assert unpack(packed, rows).tolist() == verdicts.tolist()


def test_row_i_is_bit_i():
    assert pack([0, 1, 0, 0, 0, 0, 0, 0, 1]) == "0201"


def test_losses_by_row_whatever_the_order_of_the_results():
    dense, pruned = results(Schedule()), results(VTW)
    verdicts = RowVerdicts.of(dense, {VTW.key: pruned[::-1]})
    wanted = [d.correct - p.correct for d, p in zip(dense, pruned, strict=True)]
    assert verdicts.losses([VTW.key])[:, 0].tolist() == wanted
    assert verdicts.groups[:4] == (0, 0, 1, 1)
    assert verdicts.tasks == tuple(r.task for r in dense)


def test_verdicts_between_right_and_wrong_are_not_packed():
    dense = results(Schedule())
    partly = [replace(r, correct=0.5) if r.index == 3 else r for r in dense]
    assert RowVerdicts.of(dense, {VTW.key: partly}) is None
    assert RowVerdicts.of(dense, {VTW.key: dense}) is not None


@pytest.mark.parametrize("change", [{"dense": "00"}, {"tasks": (None,)}, {"points": {"a": "zz" * 12}}])
def test_verdicts_that_do_not_fit_their_rows_are_refused(change):
    made = RowVerdicts.of(results(Schedule()), {VTW.key: results(VTW)})
    with pytest.raises(ValidationError):
        RowVerdicts.model_validate({**made.model_dump(), **change})


def test_a_study_leaves_the_verdicts_of_its_points_and_baselines(tmp_path: Path):
    front = run_study(tiny_spec(tmp_path, search={"trials": 12}), backend=BACKEND).front
    folder = next(tmp_path.rglob("front.json")).parent
    verdicts = FrontFile.load(folder).study.verdicts["validation"]
    assert json.loads((folder / "front.json").read_text())["study"]["verdicts"]["validation"]["dense"] == verdicts.dense
    shown = [p for p in (*front.points, *front.baselines) if p.validation]
    assert set(verdicts.points) == {p.schedule.key for p in shown}
    for point in shown:
        lost = verdicts.losses([point.schedule.key])[:, 0]
        assert lost.mean() == pytest.approx(point.validation.drop)
        hard = [task == "hard" for task in verdicts.tasks]
        assert lost[hard].mean() == pytest.approx(point.validation.tasks["hard"].drop)
