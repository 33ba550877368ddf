"""Ray's own processes die under ``autoprune calibrate``: it ends by itself, keeps what it has, and resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.processes import HEAD, RAYLET, actors_of, processes_of, start_calibrate, wait_until
from support.studies import BACKEND, write_study
from support.trials import assert_all_ended, attempts, ended_twice

from autoprune.search.spec import StudySpec

ENDS = 240
"""Seconds for a driver to end: on a loaded machine Ray and its workers alone take more than one minute to start."""
pytestmark = pytest.mark.timeout(4 * ENDS)


def started(study: Path, **variables: str) -> subprocess.Popen[str]:
    return start_calibrate(study, BACKEND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=variables)


def wait_for_tasks(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    log = folder / "tasks.log"
    wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= count, process)


def assert_resumes(study: Path) -> None:
    """Run again, the study comes to its end: every trial ended once."""
    (study.parent / "slow").unlink()
    again = started(study)
    out, err = again.communicate(timeout=ENDS)
    assert again.returncode == 0, err
    assert json.loads(out)["complete"] is True
    spec = StudySpec.load(study)
    assert_all_ended(spec)
    assert not ended_twice(spec)


@pytest.mark.parametrize("what", [pytest.param("raylet", marks=pytest.mark.slow), "head"])
def test_a_study_whose_ray_dies_keeps_what_it_has_and_resumes(tmp_path: Path, what: str) -> None:
    (tmp_path / "slow").write_text("0.4")
    study = write_study(tmp_path, search={"trials": 24}, workers={"count": 2})
    process = started(study)
    wait_for_tasks(tmp_path, 12, process)
    (killed,) = processes_of(process.pid, {"raylet": RAYLET, "head": HEAD}[what])
    os.kill(killed, signal.SIGKILL)
    out, err = process.communicate(timeout=ENDS)
    assert process.returncode == 1, err
    error = json.loads(out)["error"]
    assert what in error["message"]
    assert "resume" in error["remedy"]
    assert "Traceback" not in err
    assert not processes_of(process.pid, "ray"), "nothing of it is left"
    front = json.loads((tmp_path / "run" / "front.json").read_text())
    assert front["study"]["complete"] is False
    assert front["points"]

    assert_resumes(study)
    tried = attempts(StudySpec.load(study))
    assert [how for _, how in tried if how in ("lost", "failed")] == [], "no candidate is to blame"


@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGHUP", marks=pytest.mark.slow)])
def test_a_signal_ends_a_study_in_order(tmp_path: Path, name: str) -> None:
    (tmp_path / "slow").write_text("0.3")
    process = started(write_study(tmp_path, search={"trials": 40}, workers={"count": 1}))
    wait_for_tasks(tmp_path, 8, process)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=ENDS)
    assert process.returncode == 128 + getattr(signal, name), err
    assert json.loads(out)["complete"] is False
    assert "Traceback" not in err
    assert "SIGTERM received" not in err, "no stacks of Ray"
    assert (tmp_path / "run" / "report.html").exists()
    assert not processes_of(process.pid, "ray")


@pytest.mark.slow
def test_a_signal_does_not_wait_for_workers_that_load(tmp_path: Path) -> None:
    (tmp_path / "loading").write_text("600")
    process = started(write_study(tmp_path, workers={"count": 1}))
    wait_until(lambda: actors_of(process.pid), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=ENDS)
    assert process.returncode == 143, err
    assert json.loads(out)["error"]["message"] == "stopped by SIGTERM"
    assert "Traceback" not in err
    assert not processes_of(process.pid, "ray")


@pytest.mark.slow
def test_what_runs_too_long_is_dropped(tmp_path: Path) -> None:
    study = write_study(tmp_path, search={"trials": 12}, workers={"count": 1})
    process = started(study)
    wait_for_tasks(tmp_path, 3, process)
    (tmp_path / "slow").write_text("600")
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=ENDS)
    assert process.returncode == 143, err
    assert json.loads((tmp_path / "run" / "front.json").read_text())["study"]["complete"] is False
    assert_resumes(study)


@pytest.mark.slow
def test_workers_that_ray_ends_for_their_memory_are_told_as_such(tmp_path: Path) -> None:
    study = write_study(tmp_path, search={"trials": 12}, workers={"count": 1})
    process = started(study, RAY_memory_usage_threshold="0.001", RAY_memory_monitor_refresh_ms="100")
    out, err = process.communicate(timeout=ENDS)
    assert process.returncode == 1, err
    error = json.loads(out)["error"]
    assert "memory" in error["message"]
    assert "bug" not in f"{error['message']} {error['remedy']}"
