"""The console script and `autoprune.calibrate`: a study from Python, and what the base install says."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import yaml
from support.fronts import make_front
from support.scenes import save_rows

import autoprune
from autoprune.models.vision import install
from autoprune.search.front import FrontFile
from autoprune.search.spec import StudySpec


@pytest.fixture
def study(tiny, rows, tmp_path, monkeypatch):
    """The keys and values of a study with three trials; its paths start at the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "held_out").mkdir()
    held_out = save_rows(tmp_path / "held_out", count=6, seed=1)
    return {
        "name": "from Python",
        "model": {"path": str(tiny)},
        "data": {"calibration": {"path": str(rows)}, "validation": {"path": str(held_out.relative_to(tmp_path))}},
        "space": {"layers": [3], "keep": [0.25], "criteria": ["text"], "max_stages": 1},
        "baselines": [],
        "search": {"trials": 3},
        "workers": {"count": 2},
        "output": "run",
    }


def test_a_study_from_python_then_from_its_file_and_as_a_value(study, tmp_path):
    front = autoprune.calibrate(study, output=tmp_path / "elsewhere", workers=0)
    assert isinstance(front, FrontFile)
    assert not (tmp_path / "run").exists()
    folder = tmp_path / "elsewhere"
    assert {p.name for p in folder.iterdir()} >= {"report.html", "front.json", "front.csv", "front.png", "study.yaml"}
    assert front == FrontFile.model_validate_json((folder / "front.json").read_text())
    assert all(point.validation.samples == 6 for point in front.points)
    front.points[0].schedule.save(tmp_path / "schedule.json")

    trials = [t.trial for t in front.study.trials]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**study, "workers": {"count": 0}}))
    again = autoprune.calibrate(tmp_path / "study.yaml", output="elsewhere")
    assert [t.trial for t in again.study.trials] == trials  # resumed: nothing is measured twice
    spec = StudySpec.load(tmp_path / "study.yaml", output="elsewhere")
    assert [t.trial for t in autoprune.calibrate(spec).study.trials] == trials


def test_everything_wrong_with_a_study_is_one_error(study):
    study |= {"serch": {}, "model": {"path": "nothing"}}
    with pytest.raises(autoprune.AutopruneError, match="2 errors") as caught:
        autoprune.calibrate(study)
    assert "search" in str(caught.value)
    assert "model.path" in str(caught.value)


def test_ctrl_c_reaches_the_caller_after_the_report(study, tmp_path, monkeypatch):
    from autoprune.search import driver

    front = FrontFile.model_validate(make_front())
    stopped = driver.RunOutcome(front, tmp_path, signum=signal.SIGINT, counts={})
    monkeypatch.setattr(driver, "run_study", lambda spec: stopped)
    with pytest.raises(KeyboardInterrupt):
        autoprune.calibrate(study)
    assert (tmp_path / "report.html").exists()


def test_without_the_packages_of_a_search_the_error_names_the_extra():
    code = """
import sys
sys.modules["optuna"] = None
import autoprune, json
try:
    autoprune.calibrate({})
except autoprune.AutopruneError as error:
    print(json.dumps(error.to_dict()))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    error = json.loads(ran.stdout)
    assert "optuna" in error["message"]
    assert error["remedy"] == install("search")


def test_the_command_line_of_the_base_install_says_in_one_line_what_to_install(monkeypatch, capsys):
    from autoprune import entry

    real = entry.importlib.util.find_spec
    monkeypatch.setattr(entry.importlib.util, "find_spec", lambda name: None if name == "typer" else real(name))
    assert entry.main(["presets"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install" in said
