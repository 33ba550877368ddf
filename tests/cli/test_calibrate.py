"""The main job through the command line, on a random model: what it leaves, what it says, and how it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from support.scenes import save_answered_rows, save_rows

from autoprune.cli.app import run
from autoprune.data.samples import load_samples
from autoprune.schedule import Schedule
from autoprune.search.front import FrontFile
from autoprune.search.racing import race_order

STUDY = """
name: tiny
model: {{path: {model}}}
data:
  calibration: {{path: {rows}}}
  validation: {{path: {held_out}}}
search: {{trials: {trials}}}
workers: {{count: 0}}
output: run
"""


@pytest.fixture(scope="session")
def held_out(tiny, tmp_path_factory):
    return save_answered_rows(tmp_path_factory.mktemp("held_out"), tiny, count=14, seed=1)


def write_study(folder, tiny, rows, held_out, trials=8, **changed):
    text = STUDY.format(**{"model": tiny, "rows": rows, "held_out": held_out, "trials": trials, **changed})
    (folder / "study.yaml").write_text(text)
    return folder / "study.yaml"


@pytest.fixture(scope="session")
def finished(tiny, rows, held_out, tmp_path_factory):
    """The folder of a study that ran to its end."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(["calibrate", str(write_study(folder, tiny, rows, held_out))]) == 0
    return folder


def test_it_leaves_every_file_of_the_contract(finished):
    names = {p.name for p in (finished / "run").iterdir()}
    assert names >= {"report.html", "front.json", "front.csv", "front.png", "study.yaml", "study.db"}
    front = FrontFile.model_validate_json((finished / "run" / "front.json").read_text())
    assert sum(front.study.counts.values()) >= 8
    assert all(p.validation and p.validation.samples == 14 for p in front.points)


def test_again_is_a_resume_that_measures_nothing_new(finished, cli):
    before = json.loads((finished / "run" / "front.json").read_text())
    result = cli("calibrate", finished / "study.yaml", "--json")
    assert result.code == 0, result.err
    assert result.json["complete"]
    after = json.loads((finished / "run" / "front.json").read_text())
    assert [t["trial"] for t in after["study"]["trials"]] == [t["trial"] for t in before["study"]["trials"]]
    assert [p["validation"] for p in after["points"]] == [p["validation"] for p in before["points"]]


def test_a_point_goes_all_the_way_to_a_verified_schedule(finished, cli, tiny, held_out, tmp_path):
    target = tmp_path / "s.json"
    assert cli("export", finished / "run", "--max-drop", "1", "-o", target).code == 0
    schedule = Schedule.load(target)
    assert schedule.model.num_layers == 6
    assert schedule.evidence["samples"] == 14
    verified = cli("verify", tiny, target, "--data", held_out, "--json")
    assert verified.code == 0, verified.err
    # The same rows as the validation: both ways of measuring must find the same loss.
    assert verified.json["drop"] == pytest.approx(schedule.evidence["export"]["drop_measured"])
    assert verified.json["flops_ratio"] == pytest.approx(schedule.evidence["flops_ratio"])


def test_a_dry_run_says_what_would_happen_and_writes_nothing(cli, tiny, rows, held_out, tmp_path):
    study = write_study(tmp_path, tiny, rows, held_out)
    plan = cli("calibrate", study, "--dry-run", "--trials", "50", "--json").json
    assert plan["trials"] == 50
    assert plan["num_layers"] == 6
    assert plan["calibration_samples"] == 12
    assert plan["validation_samples"] == 14
    assert [p.name for p in tmp_path.iterdir()] == ["study.yaml"]


def test_options_win_over_the_file(cli, tiny, rows, held_out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = write_study(tmp_path, tiny, rows, held_out)
    options = ["--output", "elsewhere", "--workers", "3", "--storage", "sqlite:///other.db"]
    plan = cli("calibrate", study, "--dry-run", *options, "--json").json
    assert plan["output"] == str(tmp_path / "elsewhere")
    assert plan["workers"] == 3
    assert plan["storage"].endswith("other.db")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "nothing"}, "nothing"),
        ({"rows": "no.jsonl"}, "no.jsonl"),
        ({"trials": "-3"}, "search.trials"),
        ({"trials": "8}\nspaces: {a: 1"}, "spaces"),
        ({"trials": "8}\nbaselines: [fastvv"}, "fastv"),
    ],
)
def test_a_bad_study_file_is_refused_before_anything_is_written(cli, tiny, rows, held_out, tmp_path, change, said):
    changed = {k: tmp_path / v if k in ("model", "rows") else v for k, v in change.items()}
    study = write_study(tmp_path, **({"tiny": tiny, "rows": rows, "held_out": held_out} | changed))
    check_refused(cli("calibrate", study), said, tmp_path)


@pytest.mark.parametrize(
    ("row", "said"),
    [({"image": "no.png", "prompt": "what"}, "no such file"), ({"image": "0-0.png", "answers": ["1"]}, "prompt")],
)
def test_a_bad_row_is_refused_before_anything_is_written(cli, tiny, rows, held_out, tmp_path, row, said):
    bad = rows.with_name(f"worse-{said.split()[0]}.jsonl")
    bad.write_text(json.dumps(row) + "\n")
    check_refused(cli("calibrate", write_study(tmp_path, tiny, bad, held_out)), said, tmp_path)


def test_a_missing_study_file(cli, tmp_path):
    result = cli("calibrate", tmp_path / "no.yaml")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "no.yaml" in result.err


@pytest.mark.parametrize("url", ["sqlite:////proc/nowhere/study.db", "nonsense", "mongo://x/y"])
def test_a_database_that_cannot_be_opened(cli, tiny, rows, held_out, tmp_path, url):
    result = cli("calibrate", write_study(tmp_path, tiny, rows, held_out), "--storage", url)
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert "storage" in result.err.splitlines()[-1]
    assert not (tmp_path / "run" / "front.json").exists()


def test_ctrl_c_writes_the_report_and_exits_130(tiny, rows, held_out, tmp_path):
    study = write_study(tmp_path, tiny, rows, held_out, trials=100_000)
    command = [sys.executable, "-m", "autoprune", "calibrate", str(study), "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as running:
        while "searching" not in running.stderr.readline():
            assert running.poll() is None, "it ended before it searched"
        time.sleep(0.5)  # a trial or two
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=240)
    assert running.returncode == 130, err
    summary = json.loads(out)
    assert not summary["complete"]
    assert (tmp_path / "run" / "report.html").exists()
    assert "stopped before its end" in (tmp_path / "run" / "report.html").read_text()


def check_refused(result, said, folder):
    assert result.code == 2, result.err
    assert said in result.err
    assert "Traceback" not in result.err
    assert len([line for line in result.err.splitlines() if line.startswith("error:")]) == 1
    assert [p.name for p in folder.iterdir()] == ["study.yaml"]


def test_a_dry_run_tries_the_database_and_the_folder_before_the_model(cli, tiny, rows, held_out, tmp_path):
    study = write_study(tmp_path, tiny, rows, held_out)
    for option, place in (("--storage", "sqlite:////proc/study.db"), ("--output", "/proc/run")):
        error = cli("calibrate", study, "--dry-run", option, place, "--json").json["error"]
        assert (error["field"], error["value"]) == (option.removeprefix("--"), place)


def test_a_dry_run_looks_at_the_model_on_its_rows(cli, tiny, rows, held_out, tmp_path):
    found = cli("calibrate", write_study(tmp_path, tiny, rows, held_out), "--dry-run", "--json").json["preflight"]
    first = load_samples(rows)[race_order(12)[0]]
    assert found["prompt"] == f"<s> USER: <image>×{16 * len(first.images)} {first.prompt} ASSISTANT:"
    assert found["template"] == "the processor's chat template"
    assert found["accepted"] == list(first.answers)
    assert found["tokens"]["min"] < found["tokens"]["median"] < found["tokens"]["max"]
    assert found["visual_tokens"] == {"min": 16, "median": 16, "max": 32}
    assert found["generation"] == {
        "decoding": "greedy", "max_new_tokens": 32, "eos_token_id": 2, "pad_token_id": 0,
    }  # fmt: skip
    assert (found["rows"], found["judged"]) == (12, 12)
    assert 0 < found["right"] < 1
    assert found["problem"] is None


def test_the_run_says_what_was_expected_and_found(cli, tiny, rows, held_out, tmp_path):
    result = cli("calibrate", write_study(tmp_path, tiny, rows, held_out, trials=2))
    assert result.code == 0, result.err
    assert "pre-flight: dense" in result.err
    (took,) = [line for line in result.err.splitlines() if line.startswith("took ")]
    assert took.count(" min, ") == 2
    assert took.count(" GB a worker") == 2
    study = FrontFile.load(tmp_path / "run").study
    assert study.seconds > 0
    assert study.estimate.seconds > 0
    assert 0.5 < study.peak_bytes / study.estimate.memory_bytes < 2


def test_trials_that_leave_nothing_to_the_sampler_are_one_warning(cli, tiny, rows, held_out, tmp_path):
    study = write_study(tmp_path, tiny, rows, held_out, trials=3)
    said = [line for line in cli("calibrate", study, "--dry-run").err.splitlines() if "search.trials" in line]
    plan = cli("calibrate", study, "--dry-run", "--json").json
    assert len(said) == 1
    assert f"search.trials is 3, and {sum(plan['initial_schedules'].values())} initial schedules" in said[0]
    assert cli("calibrate", study, "--dry-run", "--trials", "500", "--json").json["warnings"] == []


@pytest.fixture
def hopeless_study(tiny, held_out, tmp_path):
    """A study whose dense model gets nothing right."""
    (tmp_path / "wrong").mkdir()
    return write_study(tmp_path, tiny, save_rows(tmp_path / "wrong", 6, answers=["never said"]), held_out)


def test_a_model_that_gets_nothing_right_stops_before_any_search(cli, hopeless_study):
    refused = cli("calibrate", hopeless_study, "--json")
    assert refused.code == 1
    error = refused.json["error"]
    assert "gets none of 6 rows right" in error["message"]
    assert "wants 'never said', the model says" in error["message"]
    assert "--dry-run" in error["remedy"]
    assert "searching" not in refused.err


def test_a_dry_run_shows_what_a_model_that_gets_nothing_right_says(cli, hopeless_study):
    shown = cli("calibrate", hopeless_study, "--dry-run", "--json")
    assert shown.code == 1
    assert "gets none of 6 rows right" in shown.json["preflight"]["problem"]
    assert shown.json["preflight"]["right"] == 0
    assert "error: " in shown.err


def test_a_study_of_agreement_needs_no_right_answer(cli, hopeless_study):
    hopeless_study.write_text(hopeless_study.read_text() + "objectives: [flops, agreement]\n")
    assert cli("calibrate", hopeless_study, "--dry-run", "--json").code == 0


def test_no_hint_is_given_that_no_point_can_satisfy(cli, finished, monkeypatch):
    """The example asks for a loss that some point keeps, or names a trial."""
    folder = finished / "run"
    front = FrontFile.load(folder)
    result = cli("calibrate", finished / "study.yaml")
    hints = [line for line in result.err.splitlines() if "autoprune export" in line]
    assert len(hints) == 1
    within = [p for p in front.points if p.schedule.stages and p.validation and p.validation.drop <= 0.02]
    assert ("--max-drop" in hints[0]) == bool(within)
    asked = hints[0].split("autoprune export ")[1].split()[1:-2]
    assert cli("export", folder, *asked, "-o", folder.parent / "taken.json").code == 0
