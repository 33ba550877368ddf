from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from support.scenes import save_rows

from autoprune.schedule import Schedule


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Rows whose right answers are the model's own."""
    return save_rows(tmp_path_factory.mktemp("own"), count=6, answers=None)


def test_one_object_a_picture_and_a_schedule(cli, tiny, own, tmp_path):
    picture, schedule = tmp_path / "flow.png", tmp_path / "himap.json"
    result = cli("flow", tiny, "--data", own, "--json", "--plot", picture, "-o", schedule, "--by-task")
    assert result.code == 0, result.err
    found = result.json
    assert found["samples"] == 6
    assert found["accuracy"] == 1.0
    assert set(found["flows"]) == {"share", "summed", "per-token", "read"}
    assert set(found["flows"]["share"]) == {"visual_to_text", "visual_to_visual", "text_to_visual", "text_to_text"}
    assert all(len(curve[end]) == 6 for curve in found["flows"]["share"].values() for end in ("mean", "low", "high"))
    assert set(found["cuts"]["visual_to_text"]) == {"cut", "random", "beyond_random"}
    assert set(found["tasks"]) == {"t0", "t1"}
    assert set(found["tasks"]["t0"]["flows"]) == set(found["flows"])
    saved = Schedule.load(schedule)
    assert [stage.layer for stage in saved.stages] == found["proposal"]["layers"]
    assert saved.key == Schedule.model_validate(found["schedule"]).key
    assert saved.model.num_layers == 6
    colours = np.asarray(Image.open(picture).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 100
    assert all((abs(colours - np.array(c)).sum(1) < 12).sum() > 200 for c in [(11, 95, 165), (184, 72, 11)])


def test_people_get_every_layer_both_cuts_and_the_two_layers(cli, tiny, own):
    shown = cli("flow", tiny, "--data", own, "--by-task", "--measure", "per-token", "--window", "2")
    assert shown.code == 0, shown.err
    tables = shown.out.split("\n\n")
    assert "flow (per-token)" in tables[0]
    assert [line.split()[0] for line in tables[0].splitlines()[3:]] == list("012345")
    assert "cut in layer and the 1 behind it" in tables[1]
    assert [line.split()[0] for line in tables[1].splitlines()[3:]] == list("012345")
    assert {"t0", "t1"} <= {line.split()[0] for line in tables[2].splitlines() if line}
    assert "HiMAP: K1 = " in shown.out
    assert "t0" not in cli("flow", tiny, "--data", own).out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--measure", "sum"], ["--measure", "sum", "share", "per-token"]),
        (["--loss", "all"], ["--loss", "first", "answer"]),
        (["--window", "7"], ["window", "1 to 6"]),
        (["--samples", "1"], ["--samples"]),
        (["--plot", "flow.pdf"], ["--plot", ".png"]),
        (["-o", "nowhere/himap.json"], ["--output", "folder"]),
    ],
)
def test_bad_options_are_named(cli, tiny, own, options, words):
    result = cli("flow", tiny, "--data", own, *options)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert all(word in result.err for word in words)


def test_a_file_that_exists_is_replaced_by_force_only(cli, tiny, own, tmp_path):
    (there := tmp_path / "himap.json").write_text("mine")
    assert "--force" in cli("flow", tiny, "--data", own, "-o", there).err
    assert there.read_text() == "mine"
    assert cli("flow", tiny, "--data", own, "-o", there, "--force").code == 0
    assert Schedule.load(there).stages


def test_one_group_of_rows_has_no_interval(cli, tiny, tmp_path):
    result = cli("flow", tiny, "--data", save_rows(tmp_path, count=2), "--json")
    assert result.code == 2
    assert "2 groups" in result.json["error"]["message"]


def test_no_proposal_is_a_failed_job_that_says_why_and_still_shows_the_curves(cli, tiny, own, tmp_path, monkeypatch):
    from autoprune.analysis.flow import study

    propose = study.propose
    monkeypatch.setattr(study, "propose", lambda flows, groups: propose(flows, groups, keep=(0.5, 1e-4)))
    assert cli("flow", tiny, "--data", own, "--json").json["schedule"] is None
    result = cli("flow", tiny, "--data", own, "-o", tmp_path / "himap.json")
    assert result.code == 1
    assert "propose no K2" in result.err
    assert "propose no two layers" in result.out
    assert not (tmp_path / "himap.json").exists()
