from __future__ import annotations

import json

import pytest
from matplotlib.image import imread

from autoprune.analysis.withdrawal.study import sweep
from autoprune.data.samples import load_samples
from autoprune.models.loading import load_model
from autoprune.schedule import Schedule

FEW = ("--samples", 8, "--max-new-tokens", 2)


def test_the_object_is_the_result_of_the_analysis(cli, tiny, rows):
    found = cli("sweep", tiny, "--data", rows, *FEW, "--json")
    assert found.code == 0, found.err
    expected = sweep(load_model(tiny), load_samples(rows, samples=8), max_new_tokens=2)
    assert {**found.json, "model": None, "schedule": None} == json.loads(
        json.dumps({**expected.to_dict(), "model": None, "schedule": None})
    )
    assert found.json["layer"] is None
    assert found.json["schedule"]["stages"] == []
    assert found.json["samples"] == 8
    assert len(found.json["flops_ratio"]) == 6


def test_table_picture_and_schedule(cli, tiny, rows, tmp_path):
    picture, file = tmp_path / "sweep.png", tmp_path / "schedule.json"
    found = cli("sweep", tiny, "--data", rows, *FEW, "--eta", 100, "--plot", picture, "-o", file)
    assert found.code == 0, found.err
    assert "layer 0 ←" in found.out
    assert "robust, eta 100: withdraw before layer 0" in found.out
    assert "vtw-compat, eta 100: withdraw before layer 5" in found.out
    pixels = imread(picture)
    assert pixels.shape[1] > 1000
    assert pixels[..., :3].std() > 0.05
    schedule = Schedule.load(file)
    assert [(s.layer, s.keep.ratio) for s in schedule.stages] == [(0, 0.0)]
    assert schedule.evidence["samples"] == 8
    checked = cli("apply-check", tiny, file)
    assert checked.code == 0, checked.err


def test_the_rule_decides_what_is_saved(cli, tiny, rows, tmp_path):
    file = tmp_path / "schedule.json"
    cli("sweep", tiny, "--data", rows, *FEW, "--rule", "vtw-compat", "--eta", 100, "-o", file)
    assert [s.layer for s in Schedule.load(file).stages] == [5]


def test_no_withdrawal_is_a_schedule_that_withdraws_nothing(cli, tiny, rows, tmp_path):
    file = tmp_path / "schedule.json"
    found = cli("sweep", tiny, "--data", rows, *FEW, "--eta", 1e-12, "-o", file)
    assert found.code == 0
    assert "do not withdraw: no layer qualifies" in found.out
    assert "the schedule withdraws nothing" in found.err
    assert Schedule.load(file).stages == ()


def test_one_row_has_no_interval_and_its_picture_no_band(cli, tiny, rows, tmp_path):
    options = ("--samples", 1, "--max-new-tokens", 1, "--rule", "vtw-compat", "--plot", tmp_path / "one.png")
    found = cli("sweep", tiny, "--data", rows, *options)
    assert found.code == 0, found.err
    assert "robust" not in found.out
    assert (tmp_path / "one.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--samples", 1), "samples: a bound needs samples of at least 4 groups (got 1)"),
        (("--rule", "best"), "rule: no such rule (got 'best'); use robust or vtw-compat"),
        (("--eta", 0), "eta: must be above 0"),
        (("-o", "nowhere/schedule.json"), "--output: the folder does not exist"),
        (("--plot", "nowhere/sweep.png"), "--plot: the folder does not exist"),
        (("--plot", "sweep.jpeg"), "--plot: must end in .png (got 'sweep.jpeg')"),
    ],
)
def test_bad_input_is_one_line(cli, tiny, rows, options, message):
    found = cli("sweep", tiny, "--data", rows, *options)
    assert found.code == 2
    assert found.out == ""
    assert found.err.startswith(f"error: {message}")
    assert found.err.count("\n") == 1


def test_files_that_exist_stay_without_force(cli, tiny, rows, tmp_path):
    file = tmp_path / "schedule.json"
    file.write_text("mine")
    found = cli("sweep", tiny, "--data", rows, "-o", file)
    assert found.code == 2
    assert "--force" in found.err
    assert file.read_text() == "mine"
    assert cli("sweep", tiny, "--data", rows, *FEW, "-o", file, "--force").code == 0
    assert Schedule.load(file).stages == ()
