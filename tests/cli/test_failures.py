"""Bad input from outside: exit code 2, one line that names the remedy, no traceback, nothing written."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.fronts import make_front

from autoprune.presets import fastv, vtw


def python_m(*argv: object, cwd=None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autoprune", *map(str, argv)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd, check=False)


def check_refused(result, *said: str) -> None:
    assert result.code == 2, result.err
    assert result.out == ""
    assert result.err.count("\n") == 1, result.err
    assert "Traceback" not in result.err
    for text in said:
        assert text in result.err


def test_no_such_run(cli, tmp_path):
    check_refused(cli("report", tmp_path / "no"), "front.json", "autoprune calibrate")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"study": {}}', json.dumps(make_front() | {"points": [{"trial": 3}]})])
def test_a_broken_front(cli, tmp_path, content):
    (tmp_path / "front.json").write_text(content)
    check_refused(cli("report", tmp_path), "front.json")
    assert [p.name for p in tmp_path.iterdir()] == ["front.json"]


def test_no_such_schedule(cli, tiny, tmp_path):
    check_refused(cli("apply-check", tiny, tmp_path / "no.json"), "no.json", "schedule")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stages": [{"layer": 1, "keep": {"ratio": 0.5}}]}, "criterion"),
        ({"extra": 1}, "extra"),
        ({"version": 9}, "version"),
    ],
)
def test_a_broken_schedule(cli, tiny, tmp_path, change, said):
    path = tmp_path / "s.json"
    path.write_text(json.dumps(vtw(2).to_json_dict() | change))
    check_refused(cli("verify", tiny, path, "--data", "x.jsonl"), said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('"evidence": ' + "[" * 10**5 + "]" * 10**5, "nested too deeply"),
        ('"stages": [{"layer": 1, "keep": {"count": 1' + "0" * 400 + "}}]", "stages[0].keep.count"),
        (", ".join(f'"k{i}": 0' for i in range(50_000)), "50001 errors, the first 20"),
    ],
    ids=["depth", "digits", "keys"],
)
def test_a_monstrous_schedule_is_one_short_line(cli, tiny, tmp_path, change, said):
    path = tmp_path / "s.json"
    path.write_text(f'{{"format": "autoprune.schedule", "version": 1, "positions": "far", {change}}}')
    result = cli("apply-check", tiny, path)
    check_refused(result, said)
    assert len(result.err) < 3000


@pytest.mark.parametrize("command", ["report", "calibrate"])
def test_files_nested_too_deeply(cli, tmp_path, command):
    name = {"report": "front.json", "calibrate": "study.yaml"}[command]
    (tmp_path / name).write_text("[" * 10**4 + "]" * 10**4)
    check_refused(cli(command, tmp_path if command == "report" else tmp_path / name), "nested too deeply")


def test_a_schedule_for_another_model(cli, tiny, rows, tmp_path):
    path = tmp_path / "s.json"
    model = {"name": "other", "model_type": "llava", "num_layers": 32, "hidden_size": 4096, "config_sha256": "00"}
    path.write_text(json.dumps(fastv().to_json_dict() | {"model": model}))
    for command in (["apply-check", tiny, path], ["verify", tiny, path, "--data", rows]):
        check_refused(cli(*command), "num_layers 32", "calibrate this model")


def test_a_layer_out_of_range(cli, tiny, tmp_path):
    vtw(16).save(tmp_path / "s.json")
    check_refused(cli("apply-check", tiny, tmp_path / "s.json"), "layers 0 to 5", "presets.for_depth")


def test_no_such_model(cli, schedule_file, tmp_path):
    check_refused(cli("apply-check", tmp_path / "nothing", schedule_file), "nothing")


@pytest.mark.parametrize(
    ("row", "said"),
    [({"image": "no.png", "prompt": "what is it"}, "no such file"), ({"image": "0-0.png"}, "prompt")],
)
def test_a_row_that_cannot_be_used(cli, tiny, rows, schedule_file, row, said):
    bad = rows.with_name(f"bad-{said.split()[0]}.jsonl")
    bad.write_text(json.dumps(row) + "\n")
    for command in (
        ["verify", tiny, schedule_file, "--data", bad],
        ["apply-check", tiny, schedule_file, "--data", bad],
    ):
        check_refused(cli(*command), said, "row")


def test_with_json_stdout_holds_one_object(cli, tmp_path):
    result = cli("report", tmp_path / "no", "--json")
    assert result.code == 2
    error = result.json["error"]
    assert set(error) == {"field", "value", "message", "remedy"}
    assert error["field"] == "run"
    assert "calibrate" in error["remedy"]
    assert json.loads(result.err) == result.json


def test_usage_errors_are_one_line_with_the_way_to_help(cli):
    check_refused(cli("export"), "autoprune export --help")
    check_refused(cli("exprt"), "No such command")
    assert cli("export", "--json").json["error"]["message"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("remote", "Missing command; see `autoprune remote --help`"),
        ("hub", "Missing command; see `autoprune hub --help`"),
        ("token create", "NAME: is missing; see `autoprune token create --help`"),
        ("remote schedule --max-dorp 1", "see `autoprune remote schedule --help`"),
        ("db downgrade", "see `autoprune db --help`"),
    ],
)
def test_a_usage_error_of_a_group_names_its_command(cli, argv, said):
    check_refused(cli(*argv.split()), said)


@pytest.mark.parametrize(
    ("argv", "field", "said"),
    [
        (["export", "-o", "x.json"], "RUN", "missing"),
        (["export", "run"], "--output", "missing"),
        (["flow", "model", "--data", "d", "--measure", "sum"], "--measure", "'share'"),
        (["bench", "model", "--repeats", "many"], "--repeats", "integer"),
    ],
)
def test_a_usage_error_names_its_option(cli, argv, field, said):
    error = cli(*argv, "--json").json["error"]
    assert error["field"] == field
    assert said in error["message"]
    assert f"autoprune {argv[0]} --help" in error["remedy"]


def test_the_traceback_only_when_asked(cli, tmp_path):
    assert "Traceback" in cli("report", tmp_path / "no", "--debug").err


def test_a_bug_is_one_line_too(cli, monkeypatch):
    import autoprune.presets

    monkeypatch.setattr(autoprune.presets, "for_depth", lambda *a: 1 / 0)
    result = cli("presets")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "ZeroDivisionError" in result.err
    assert "--debug" in result.err
    assert "Traceback" in cli("presets", "--debug").err


def test_ctrl_c_is_130(cli, monkeypatch):
    import autoprune.presets

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(autoprune.presets, "for_depth", interrupted)
    stopped = cli("presets")
    assert (stopped.code, stopped.out, stopped.err) == (130, "", "error: stopped by Ctrl-C\n")
    assert cli("presets", "--json").json["error"]["message"] == "stopped by Ctrl-C"


def test_exit_codes_reach_the_shell(tmp_path):
    refused = python_m("report", "nothing", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    listed = python_m("presets", "--json", cwd=tmp_path)
    assert listed.returncode == 0
    assert json.loads(listed.stdout)["layers"] == 32
    assert list(tmp_path.iterdir()) == []
