"""Faults on the real processes of the service: nothing that was finished is lost, nothing is measured twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from support.postgres import Postgres
from support.service import study_in, waited
from support.serving import LEASE_S, Service, serving

from autoprune.service.settings import PREFIX

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
TRIALS = 60


@pytest.fixture
def service(root: Path, tmp_path: Path) -> Iterator[Service]:
    with serving(root, tmp_path / "service", f"sqlite:///{tmp_path}/service.db") as service:
        yield service


@pytest.fixture
def own_root(root: Path, tmp_path: Path) -> Path:
    """A root that a test may damage."""
    return Path(shutil.copytree(root, tmp_path / "root"))


def below(process: psutil.Process, title: str) -> list[psutil.Process]:
    """Processes below one whose command line or title has a word."""
    found = []
    for child in process.children(recursive=True):
        try:
            if any(title in part for part in child.cmdline()):
                found.append(child)
        except psutil.Error:  # it has ended
            continue
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
@pytest.mark.parametrize("victim", ["driver", "runner"])
def test_a_driver_or_a_runner_dies(root: Path, service: Service, victim: str, how: signal.Signals) -> None:
    id = service.submitted(study_in(root, trials=TRIALS))
    service.searching(id)
    before = service.finished(id)
    (process,) = service.children(victim)
    process.send_signal(how)
    process.wait(240)
    service.whole(id, before)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_the_api_dies(root: Path, tmp_path: Path, how: signal.Signals) -> None:
    database = f"sqlite:///{tmp_path}/service.db"
    with serving(root, tmp_path / "service", database) as service:
        id = service.submitted(study_in(root, trials=TRIALS))
        service.searching(id)
        before = service.finished(id)
        processes = psutil.Process(service.process.pid).children(recursive=True)
        service.process.send_signal(how)
        assert service.process.wait(240) == (0 if how == signal.SIGTERM else -how)
        _, alive = psutil.wait_procs(processes, timeout=240)
        assert not alive
    with serving(root, tmp_path / "service", database) as service:
        service.whole(id, before)
        assert service.state(id)["attempts"] == 1  # given back, not lost


@pytest.mark.parametrize("part", ["ray::EngineActor", "raylet", "gcs_server"])
def test_a_part_of_ray_is_killed(root: Path, service: Service, part: str) -> None:
    id = service.submitted(study_in(root, trials=TRIALS, count=1))
    service.searching(id)
    before = service.finished(id)
    (driver,) = service.children("driver")
    below(driver, part)[0].kill()
    service.whole(id, before)


def test_postgresql_is_away_for_20_s(root: Path, tmp_path: Path, postgres: Postgres) -> None:
    with serving(root, tmp_path / "service", postgres.new_database()) as service:
        id = service.submitted(study_in(root, trials=TRIALS))
        service.searching(id)
        before = service.finished(id)
        postgres.stop()
        try:
            away = service.http.get(f"/v1/studies/{id}")
            assert away.status_code == 503
            assert away.json()["error"]["message"] == "the database is away"
            time.sleep(20)
        finally:
            postgres.start()
        waited(lambda: service.http.get("/readyz").status_code == 200)
        service.whole(id, before)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk that can be filled, mounted on a folder."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(file: Path) -> None:
    """Writes until its disk is full."""
    with suppress(OSError), open(file, "wb", buffering=0) as stream:
        while stream.write(b"0" * 4096):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_the_disk_of_the_output_is_full(root: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/service.db"
    with small_disk(tmp_path / "service", 8) as folder, serving(root, folder, database) as service:
        id = service.submitted(study_in(root, trials=TRIALS))
        service.searching(id)
        before, filler = service.finished(id), folder / "filler"
        fill(filler)
        failed = service.ended(id)
        assert failed["state"] == "failed"
        assert "full" in failed["reason"] or "No space left" in failed["reason"]
        assert "bug" not in failed["reason"]
        filler.unlink()
        assert service.http.post(f"/v1/studies/{id}/resume").status_code == 200
        service.whole(id, before)


def test_a_candidate_runs_out_of_memory(root: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/service.db"
    small = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    with serving(root, tmp_path / "service", database, small) as service:
        id = service.submitted(study_in(root, trials=TRIALS, count=1))
        failed = service.ended(id)
        assert failed["state"] == "failed"
        assert "memory" in failed["reason"]
    with serving(root, tmp_path / "service", database) as service:
        assert service.http.post(f"/v1/studies/{id}/resume").status_code == 200
        service.whole(id, {})


def test_an_image_is_truncated(own_root: Path, tmp_path: Path) -> None:
    image = own_root / "calibration" / "1-0.png"
    good = image.read_bytes()
    image.write_bytes(good[: len(good) // 2])
    with serving(own_root, tmp_path / "service", f"sqlite:///{tmp_path}/service.db") as service:
        id = service.submitted(study_in(own_root, trials=TRIALS))
        failed = service.ended(id)
        assert failed["state"] == "failed"
        assert "row 1" in failed["reason"]
        assert "1-0.png" in failed["reason"]
        assert "bug" not in failed["reason"]
        image.write_bytes(good)
        assert service.http.post(f"/v1/studies/{id}/resume").status_code == 200
        service.whole(id, {})


def test_the_record_of_one_study_is_damaged(root: Path, service: Service) -> None:
    id = service.submitted(study_in(root, trials=TRIALS))
    service.searching(id)
    assert service.http.post(f"/v1/studies/{id}/cancel").status_code == 200
    assert service.ended(id)["state"] == "cancelled"
    record = service.folder / "studies" / id / "study.db"
    record.write_bytes(b"no database any more " * 5000)
    assert service.http.post(f"/v1/studies/{id}/resume").status_code == 200
    failed = service.ended(id)
    assert failed["state"] == "failed"
    assert "file is not a database" in failed["reason"]
    assert "bug" not in failed["reason"]
    service.whole(service.submitted(study_in(root, "other")), {})  # nobody else is harmed


def test_the_database_of_the_service_is_damaged(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "service.db"
    file.write_bytes(b"no database any more " * 5000)
    environment = {**os.environ, f"{PREFIX}FOLDER": str(tmp_path), f"{PREFIX}ROOTS": str(root)}
    done = subprocess.run(
        [sys.executable, "-m", "autoprune", "serve"], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 1
    assert "file is not a database" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_runner_that_cannot_renew_its_lease_ends(root: Path, service: Service) -> None:
    id = service.submitted(study_in(root, trials=TRIALS))
    service.searching(id)
    before = service.finished(id)
    (driver,) = service.children("driver")
    driver.suspend()
    time.sleep(LEASE_S * 2)
    (runner,) = service.children("runner")
    driver.resume()  # somebody else may have its job by now
    assert runner.is_running()
    service.whole(id, before)
