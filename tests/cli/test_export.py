from __future__ import annotations

import pytest
from support.fronts import make_front, save_front, typed

from autoprune.report.export import select_point
from autoprune.schedule import Schedule


def test_it_writes_a_schedule_that_loads(cli, study_folder, tmp_path):
    result = cli("export", study_folder, "--max-drop", "0.03", "-o", tmp_path / "s.json", "--json")
    assert result.code == 0, result.err
    point = select_point(typed(), max_drop=0.03)
    schedule = Schedule.load(tmp_path / "s.json")
    assert schedule.key == point.schedule.key
    assert schedule.model.num_layers == 10
    assert schedule.evidence["drop"] == result.json["drop"]
    assert result.json["export"] == schedule.evidence["export"]
    assert schedule.evidence["export"]["drop_measured"] == pytest.approx(point.validation.drop)
    assert result.json["trial"] == point.trial
    assert result.json["schedule"] == schedule.to_json_dict()


def test_a_schedule_to_stdout_is_alone_there(cli, study_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = cli("export", study_folder, "--trial", "2", "-o", "-")
    assert cli("export", study_folder, "--trial", "2", "-o", tmp_path / "s.json").code == 0
    assert result.out == (tmp_path / "s.json").read_text()
    (tmp_path / "s.json").unlink()
    assert "himap: 34.0 %" in result.err
    assert cli("export", study_folder, "--trial", "2", "-o", "-", "-q").err == ""
    assert sorted(tmp_path.iterdir()) == before
    both = cli("export", study_folder, "-o", "-", "--json")
    assert both.code == 2
    assert "--json" in both.json["error"]["message"]


@pytest.mark.parametrize(
    "options", [["--max-drop", "1"], ["--trial", "2"], ["--max-flops", "0.9"], ["--confidence", "0.9"]]
)
def test_a_front_whose_dense_model_gets_nothing_right_is_not_sold(cli, tmp_path, options):
    front = make_front()
    front["dense"]["accuracy"] = front["dense"]["validation"]["accuracy"] = 0.0
    save_front(tmp_path / "run", front)
    result = cli("export", tmp_path / "run", *options, "-o", tmp_path / "s.json", "--json")
    assert result.code == 1
    assert "gets none of" in result.json["error"]["message"]
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("options", "selector"),
    [
        ([], {}),
        (["--max-drop", "where=0.12"], {"max_drop": {"where": 0.12}}),
        (["--max-flops", "0.42"], {"max_flops": 0.42}),
        (["--max-drop", "0.06", "--max-drop", "where=0.2"], {"max_drop": {"*": 0.06, "where": 0.2}}),
        (["--max-kv", "0.45"], {"max_kv": 0.45}),
        (["--max-latency-ms", "15"], {"max_latency_ms": 15.0}),
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
    assert "FLOPs end to end: 47.2 %" in out


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
        ["--max-drop", "0.1", "--max-drop", "0.2"],
        ["--max-drop", "0.1", "--confidence", "95"],
        ["--max-flops", "0.5", "--confidence", "0.95"],
        ["--max-flops", "0.5", "--max-kv", "0.5"],
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


@pytest.mark.parametrize(
    ("options", "field", "said"),
    [
        (["--max-flops", "0.5", "--max-kv", "0.5"], "--max-kv", "--max-drop, --max-flops, --max-latency-ms, --max-kv"),
        (["--max-flops", "0.5", "--confidence", "0.9"], "--confidence", "ask for --max-drop instead of --max-flops"),
        (["--max-latency-ms", "0"], "--max-latency-ms", "give milliseconds"),
        (["--max-flops", "0.01"], "--max-flops", "take it by --trial 23"),
    ],
)
def test_errors_name_options(cli, study_folder, tmp_path, options, field, said):
    result = cli("export", study_folder, *options, "-o", tmp_path / "s.json", "--json")
    error = result.json["error"]
    assert error["field"] == field
    assert said in f"{error['message']}; {error['remedy']}"
    assert "`" not in error["message"] + error["remedy"]


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


def test_a_promise_is_said_recorded_and_written_into_the_schedule(cli, study_folder, tmp_path):
    asked = ("export", study_folder, "--max-drop", "0.06", "--confidence", "0.95")
    first = cli(*asked, "-o", tmp_path / "a.json")
    assert first.code == 0, first.err
    assert "promised: it keeps its bound with 95 % confidence" in first.out
    estimate = cli("export", study_folder, "--max-drop", "0.06", "-o", tmp_path / "b.json")
    assert "risk that it breaks its bound" in estimate.out
    promised, estimated = Schedule.load(tmp_path / "a.json"), Schedule.load(tmp_path / "b.json")
    assert promised.evidence["export"]["kind"] == "promise"
    assert promised.evidence["export"]["confidence"] == 0.95
    assert promised.evidence["export"]["drop_at_most"] <= 0.06
    assert estimated.evidence["export"]["kind"] == "estimate"
    assert promised.evidence["flops_ratio"] >= estimated.evidence["flops_ratio"]
    assert "promises" not in first.err
    again = cli(*asked, "-o", tmp_path / "a.json", "--force", "--json").json["export"]
    assert again["promises_of_these_rows"] == 1
    other = cli("export", study_folder, "--max-drop", "0.1", "--confidence", "0.9", "-o", tmp_path / "c.json")
    assert "asked for 2 different promises" in other.err
    assert "all of them hold is sure with 85 %" in other.err


def test_nothing_can_be_promised_is_exit_1_and_says_how_many_rows_would_do(cli, study_folder, tmp_path):
    result = cli("export", study_folder, "--max-drop", "0.002", "--confidence", "0.99", "-o", tmp_path / "s.json")
    assert result.code == 1
    assert "no schedule can be promised with these rows; about " in result.err
    assert "the nearest is trial " in result.err
    assert not (tmp_path / "s.json").exists()
    assert (study_folder / "promises.json").exists()


def test_a_front_without_verdicts_of_rows_says_what_is_missing(cli, tmp_path):
    front = make_front()
    del front["study"]["verdicts"]
    run = save_front(tmp_path / "old", front)
    result = cli("export", run, "--confidence", "0.95", "-o", tmp_path / "s.json")
    assert result.code == 2
    assert "study.verdicts.validation" in result.err
    assert "autoprune calibrate" in result.err
    plain = cli("export", run, "-o", tmp_path / "s.json")
    assert plain.code == 0
    assert "its risk is not known" in plain.out


def test_a_price_that_is_not_known_is_said(cli, tmp_path):
    front = make_front()
    for point in [front["dense"], *front["points"], *front["baselines"], *front["controls"]]:
        for figures in [point, point.get("validation")]:
            if figures:
                figures["flops_ratio_end_to_end"] = None
    save_front(tmp_path, front)
    out = cli("export", tmp_path, "--trial", "2", "-o", tmp_path / "s.json").out
    assert "FLOPs end to end: not priced" in out
    shown = cli("export", tmp_path, "--trial", "2", "-o", tmp_path / "t.json", "--json").json
    assert shown["flops_ratio_end_to_end"] is None
    assert "FLOPs end to end are not priced" in cli("report", tmp_path).out.replace("\n", " ")
