"""The service as real processes: a study from its submission to its schedule, and what happens when one dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from support.service import save_root, study_in, waited

from autoprune.schedule import Schedule
from autoprune.service.settings import PREFIX
from autoprune.service.store.database import open_engine

LEASE_S = 4


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model and rows for it."""
    return save_root(tmp_path_factory.mktemp("root"))


class Service:
    """A running `autoprune serve`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, database: str, folder: Path) -> None:
        self.process, self.database, self.folder = process, database, folder
        self.http = httpx.Client(base_url=url, timeout=30)

    def submitted(self, request: dict[str, Any]) -> str:
        reply = self.http.post("/v1/studies", json=request)
        assert reply.status_code == 201, reply.text
        id: str = reply.json()["id"]
        return id

    def verified(self, request: dict[str, Any]) -> dict[str, Any]:
        """A verification, once it is done."""
        path = f"/v1/verifications/{self.http.post('/v1/verifications', json=request).json()['id']}"
        waited(lambda: self.http.get(path).json()["state"] not in ("queued", "running"))
        found: dict[str, Any] = self.http.get(path).json()
        assert found["state"] == "done", found["reason"]
        return found

    def state(self, id: str) -> dict[str, Any]:
        seen: dict[str, Any] = self.http.get(f"/v1/studies/{id}").json()
        return seen

    def ended(self, id: str) -> dict[str, Any]:
        waited(lambda: self.state(id)["state"] not in ("queued", "running"))
        return self.state(id)

    def children(self, module: str) -> list[psutil.Process]:
        """Processes below the service that run a module."""
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if f"autoprune.service.work.{module}" in child.cmdline():
                    found.append(child)
            except psutil.Error:
                continue
        return found

    def searching(self, id: str) -> None:
        """Waits until the study has finished a trial."""
        waited(lambda: self.trials(id) > 0)

    def trials(self, id: str) -> int:
        """Finished trials of a study that has its own database."""
        file = self.folder / "studies" / id / "study.db"
        if not file.exists():
            return 0
        engine = open_engine(f"sqlite:///{file}")
        try:
            with engine.connect() as connection:
                done = "SELECT count(*) FROM trials WHERE state IN ('COMPLETE', 'PRUNED')"
                return int(connection.execute(text(done)).scalar_one())
        except OperationalError:  # its tables are not made yet
            return 0
        finally:
            engine.dispose()


@contextmanager
def serving(root: Path, folder: Path, database: str, **settings: Any) -> Iterator[Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"folder": folder, "roots": root, "port": port, "database": database, "lease_s": LEASE_S, **settings}
    environment = {f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()}
    process = subprocess.Popen([sys.executable, "-m", "autoprune", "serve"], env={**os.environ, **environment})
    service = Service(process, f"http://127.0.0.1:{port}", database, folder)

    def ready() -> bool:
        try:
            return bool(service.http.get("/readyz").status_code == 200)
        except httpx.TransportError:
            assert process.poll() is None, "the service did not start"
            return False

    try:
        waited(ready)
        yield service
    finally:
        below = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        assert process.wait(60) == 0
        _, alive = psutil.wait_procs(below, timeout=30)
        assert not alive, alive


@pytest.mark.parametrize("url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
def test_a_study_from_its_submission_to_its_schedule(root: Path, tmp_path: Path, url: str) -> None:
    with serving(root, tmp_path / "service", url) as service:
        id = service.submitted(study_in(root))
        with service.http.stream("GET", f"/v1/studies/{id}/events", timeout=120) as watched:
            kinds = [line.split(": ", 1)[1] for line in watched.iter_lines() if line.startswith("event: ")]
        assert kinds[-1] == "end"
        assert {"phase", "trial", "progress"} <= set(kinds)
        seen = service.state(id)
        assert (seen["state"], seen["attempts"], seen["reason"]) == ("done", 1, "")
        front = service.http.get(f"/v1/studies/{id}/front").json()
        assert front["study"]["complete"]
        assert "<html" in service.http.get(f"/v1/studies/{id}/report").text
        chosen = service.http.get(f"/v1/studies/{id}/schedule", params={"max_drop": 1}).json()
        assert Schedule.model_validate(chosen["schedule"]).evidence["samples"] == 14
        published = service.http.post("/v1/schedules/tiny/versions", json={"study": id, "max_drop": 1}).json()
        assert service.http.get("/v1/schedules/tiny/versions/1").json()["schedule"] == chosen["schedule"]
        assert published["lineage"]["model_fingerprint"] == front["model"]["fingerprint"]
        claim = {
            "published": {"name": "tiny", "version": 1},
            "model": {"path": "model"},
            "data": study_in(root)["data"]["validation"],
        }
        verified = service.verified(claim)
        (version,) = service.http.get("/v1/schedules/tiny/versions").json()["versions"]
        assert version["verdict"] == {"verification": verified["id"], **verified["result"]}
        point = next(point for point in front["points"] if point["trial"] == chosen["trial"])
        assert verified["result"]["samples"] == 14
        assert verified["result"]["drop"] == pytest.approx(point["validation"]["drop"])
        broken = study_in(root, "broken")
        (root / "bad.jsonl").write_text('{"prompt": 5}\n')
        broken["data"]["calibration"]["path"] = "bad.jsonl"
        failed = service.ended(service.submitted(broken))
        assert failed["state"] == "failed"
        assert "bad.jsonl" in failed["reason"]
        assert "bug" not in failed["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["driver", "runner"])
def test_what_dies_is_taken_over_and_no_trial_is_lost(root: Path, tmp_path: Path, victim: str) -> None:
    with serving(root, tmp_path / "service", f"sqlite:///{tmp_path}/service.db") as service:
        id = service.submitted(study_in(root, trials=60))
        service.searching(id)
        before = service.trials(id)
        (process,) = service.children(victim)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        assert service.ended(id)["state"] == "done"
        assert service.trials(id) >= before
        front = service.http.get(f"/v1/studies/{id}/front").json()
        measured = [trial["schedule"] for trial in front["study"]["trials"] if trial.get("schedule")]
        assert len(measured) == len({str(schedule) for schedule in measured})


@pytest.mark.slow
def test_a_study_is_cancelled_in_its_middle_and_resumed(root: Path, tmp_path: Path) -> None:
    with serving(root, tmp_path / "service", f"sqlite:///{tmp_path}/service.db") as service:
        id = service.submitted(study_in(root, trials=60))
        service.searching(id)
        assert service.http.post(f"/v1/studies/{id}/cancel").status_code == 200
        assert service.ended(id)["state"] == "cancelled"
        assert not service.http.get(f"/v1/studies/{id}/front").json()["study"]["complete"]
        assert service.http.post(f"/v1/studies/{id}/resume").json()["state"] == "queued"
        assert service.ended(id)["state"] == "done"
        assert service.http.get(f"/v1/studies/{id}/front").json()["study"]["complete"]


@pytest.mark.slow
def test_a_service_that_is_stopped_gives_its_job_back(root: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/service.db"
    with serving(root, tmp_path / "service", database) as service:
        id = service.submitted(study_in(root, trials=60))
        service.searching(id)
        before = service.trials(id)
    with serving(root, tmp_path / "service", database) as service:
        assert service.state(id)["attempts"] <= 1
        assert service.ended(id)["state"] == "done"
        assert service.trials(id) >= before


@pytest.mark.slow
def test_two_runners_and_twenty_studies(root: Path, tmp_path: Path, url: str) -> None:
    with serving(root, tmp_path / "service", url, runners=2) as service:
        ids = [service.submitted(study_in(root, f"s{i}", trials=4)) for i in range(20)]
        waited(lambda: service.http.get("/v1/studies", params={"state": "done"}).json()["studies"], 300)
        service.children("runner")[0].send_signal(signal.SIGKILL)
        waited(lambda: not service.http.get("/v1/studies", params={"state": "queued"}).json()["studies"], 900)
        assert [service.ended(id)["state"] for id in ids] == ["done"] * 20
        assert len(service.children("runner")) == 2


def test_it_does_not_let_everybody_in(tmp_path: Path) -> None:
    environment = {**os.environ, f"{PREFIX}FOLDER": str(tmp_path / "service"), f"{PREFIX}HOST": "0.0.0.0"}
    done = subprocess.run(
        [sys.executable, "-m", "autoprune", "serve"], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "autoprune token create" in done.stderr
