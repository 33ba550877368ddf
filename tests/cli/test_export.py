from __future__ import annotations

import pytest
from support.fronts import typed

from autoprune.report.export import select_point
from autoprune.schedule import Schedule


def test_it_writes_a_schedule_that_loads(cli, study_folder, tmp_path):
    result = cli("export", study_folder, "--max-drop", "0.03", "-o", tmp_path / "s.json", "--json")
    assert result.code == 0, result.err
    point = select_point(typed(), max_drop=0.03)
    schedule = Schedule.load(tmp_path / "s.json")
    assert schedule.key == point.schedule.key
    assert schedule.model.num_layers == 10
    assert schedule.evidence["drop"] == point.validation.drop
    assert result.json["trial"] == point.trial
    assert result.json["schedule"] == schedule.to_json_dict()


@pytest.mark.parametrize(
    ("options", "selector"),
    [
        ([], {}),
        (["--max-drop", "where=0.12"], {"max_drop": 0.12, "task": "where"}),
        (["--max-flops", "0.42"], {"max_flops": 0.42}),
        (["--trial", "2"], {"trial": 2}),
    ],
)
def test_each_selector(cli, study_folder, tmp_path, options, selector):
    assert cli("export", study_folder, *options, "-o", tmp_path / "s.json").code == 0
    wanted = select_point(typed(), **selector).schedule
    assert Schedule.load(tmp_path / "s.json").key == wanted.key


def test_people_read_what_they_got(cli, study_folder, tmp_path):
    out = cli("export", study_folder, "--trial", "2", "-o", tmp_path / "s.json").out
    assert "himap: 34.0 % of the prefill FLOPs, loses 0.8 points of accuracy" in out
    assert "before layer 1: keep 50 % by attention of the text" in out


def test_no_point_qualifies_is_exit_1_and_names_the_nearest(cli, study_folder, tmp_path):
    result = cli("export", study_folder, "--max-flops", "0.01", "-o", tmp_path / "s.json")
    assert result.code == 1
    assert "the nearest is trial 23" in result.err
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--max-drop", "0.1", "--trial", "3"],
        ["--max-drop", "much"],
        ["--max-drop", "whre=0.1"],
        ["--max-drop", "2"],
        ["--max-flops", "x"],
        ["--trial", "1.5"],
        ["--no-such-option"],
    ],
)
def test_bad_selectors_are_exit_2_and_write_nothing(cli, study_folder, tmp_path, options):
    result = cli("export", study_folder, *options, "-o", tmp_path / "s.json")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert not (tmp_path / "s.json").exists()


def test_a_file_is_replaced_only_when_asked(cli, study_folder, tmp_path):
    target = tmp_path / "s.json"
    target.write_text("mine")
    refused = cli("export", study_folder, "-o", target)
    assert refused.code == 2
    assert "--force" in refused.err
    assert target.read_text() == "mine"
    assert cli("export", study_folder, "--max-drop", "much", "-o", target, "--force").code == 2
    assert target.read_text() == "mine"
    assert cli("export", study_folder, "-o", target, "--force").code == 0
    assert Schedule.load(target).stages
