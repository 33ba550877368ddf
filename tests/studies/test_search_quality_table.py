"""The tables of studies/search_quality: the grids, measuring in pieces, the file, and what a front is worth."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import fronts
import numpy as np
import pytest
import table as tables
from grid import GRIDS, Grid, space_of
from verdicts import Table

from autoprune.models.loading import load_model
from autoprune.models.options import ModelOptions
from autoprune.schedule import parse_criterion
from autoprune.search.methods import Method

DIGITS = GRIDS["whole"].study
SMALL = space_of(
    (0, 3, 8), (0.0, 0.2), [Method(parse_criterion("text")), Method(parse_criterion("encoder"), merge=True)]
)
SMALL_GRID = Grid(SMALL, DIGITS, rows=16, evaluations=(), shares=(0.5,))


@pytest.fixture(scope="module")
def loaded():
    return load_model(DIGITS / "model", ModelOptions(dtype="float32"))


@pytest.fixture(scope="module")
def rows():
    return tables.calibration_rows(SMALL_GRID)


@pytest.fixture(scope="module")
def measured(loaded, rows, tmp_path_factory) -> tuple[tables.Measurer, Table]:
    measurer = tables.Measurer(loaded, rows, SMALL, tmp_path_factory.mktemp("pieces"))
    tables.compute(measurer)
    return measurer, tables.join(measurer, SMALL, rows, 144)


@pytest.mark.parametrize(("name", "size"), [("old", 8624), ("whole", 18968), ("smol", 87)])
def test_a_grid_holds_each_schedule_once(name: str, size: int):
    schedules = list(GRIDS[name].space.schedules())
    assert len(schedules) == len({schedule.key for schedule in schedules}) == size


@pytest.mark.parametrize(("name", "size"), [("old", 128), ("whole", 128), ("smol", 32)])
def test_a_grid_is_measured_on_the_first_rows_of_its_study(name: str, size: int):
    rows = tables.calibration_rows(GRIDS[name])
    lines = (GRIDS[name].study / "calibration.jsonl").read_text().splitlines()[:size]
    assert [row.id for row in rows] == [json.loads(line)["id"] for line in lines]


def test_the_committed_tables_hold_the_schedules_and_rows_of_their_grids():
    for name in ("old", "whole"):
        table = Table.load(tables.HERE / f"{name}.npz")
        assert {s.key for s in table.schedules} == {s.key for s in GRIDS[name].space.schedules()}
        assert table.about["data"] == tables.calibration_rows(GRIDS[name]).digest


def test_the_order_of_measuring_changes_nothing_and_what_is_measured_stays(loaded, rows, measured, tmp_path: Path):
    measurer, whole = measured
    shutil.copytree(measurer.file(measurer.pieces[0]).parent, tmp_path / "again")
    again = tables.Measurer(loaded, rows, SMALL, tmp_path / "again")
    for piece in again.pieces[1::2]:
        again.file(piece).unlink()
    with pytest.raises(SystemExit, match="not measured yet"):
        tables.join(again, SMALL, rows, 144)
    kept = {piece.name: again.file(piece).stat().st_mtime_ns for piece in again.pieces[::2]}
    tables.compute(again, from_the_end=True)
    assert kept == {piece.name: again.file(piece).stat().st_mtime_ns for piece in again.pieces[::2]}
    joined = tables.join(again, SMALL, rows, 144)
    assert np.array_equal(joined.verdicts, whole.verdicts)
    assert np.array_equal(joined.flops, whole.flops)


def test_pieces_of_another_grid_are_refused(loaded, rows, measured):
    measurer, _ = measured
    with pytest.raises(SystemExit, match="holds another grid, model or data"):
        tables.Measurer(loaded, rows, GRIDS["old"].space, measurer.file(measurer.pieces[0]).parent)


def test_a_table_is_read_as_it_was_written(measured, tmp_path: Path):
    _, whole = measured
    whole.save(tmp_path / "small.npz")
    back = Table.load(tmp_path / "small.npz")
    assert [s.key for s in back.schedules] == [s.key for s in whole.schedules]
    assert {s.key for s in back.space.schedules()} == {s.key for s in whole.schedules}
    for name in ("verdicts", "flops", "dense"):
        assert np.array_equal(getattr(back, name), getattr(whole, name))
    assert (back.dense_flops, back.tasks, back.groups, dict(back.about)) == (
        whole.dense_flops, whole.tasks, whole.groups, dict(whole.about),
    )  # fmt: skip
    assert [(p.name, p.schedule.key, p.flops, p.verdicts.tolist()) for p in back.presets] == [
        (p.name, p.schedule.key, p.flops, p.verdicts.tolist()) for p in whole.presets
    ]


def test_verdicts_are_those_of_generate_and_a_wrong_one_is_found(loaded, rows, measured):
    _, whole = measured
    assert tables.check(whole, loaded, rows, 2) == []
    wrong = dataclasses.replace(whole, verdicts=~whole.verdicts)
    assert len(tables.check(wrong, loaded, rows, 1)) == 1


def run_script(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["table.py", *arguments])
    tables.main()


def test_a_grid_of_few_schedules_is_computed_joined_and_checked_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """On the rows of its own study: the folder says which model and which rows, the grid how many of them."""
    study = tmp_path / "other_scenes"
    study.mkdir()
    for name in ("model", "images", "calibration.jsonl"):
        (study / name).symlink_to(DIGITS / name)
    few = space_of((3, 8), (0.0,), [Method(parse_criterion("text"))])
    monkeypatch.setitem(GRIDS, "few", Grid(few, study, rows=4, evaluations=(), shares=(0.5,)))
    monkeypatch.setattr(tables, "HERE", tmp_path)
    for command in ("compute", "join"):
        run_script(monkeypatch, command, "few", "--pieces", str(tmp_path / "pieces"))
    table = Table.load(tmp_path / "few.npz")
    assert (len(table.schedules), table.rows) == (2, 4)
    run_script(monkeypatch, "check", "few")
    assert "0 of 2 schedules differ" in capsys.readouterr().out


def test_hypervolumes_of_a_staircase():
    dense = np.arange(20) < 18
    verdicts = np.array([np.arange(20) < right for right in (17, 12, 18)])
    found = fronts.worth_of(np.array([0.5, 0.25, 1.2]), verdicts, dense)
    assert found.full == pytest.approx(0.25 * 12 / 20 + 0.5 * 17 / 20)
    assert found.useful == pytest.approx(0.5 * (17 / 20 - 16 / 20))
    assert fronts.worth_of(np.array([]), np.zeros((0, 20), bool), dense).full == 0.0


def test_the_cheapest_point_within_a_drop_is_that_of_a_plain_search(measured):
    _, whole = measured
    lost = whole.dense_accuracy - whole.accuracy
    for places in (range(len(whole.schedules)), range(3), ()):
        wanted = [min([*(whole.ratios[i] for i in places if lost[i] <= drop + 1e-12), 1.0]) for drop in fronts.DROPS]
        assert list(fronts.worth(whole, places).cheapest) == wanted
