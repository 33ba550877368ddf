"""`autoprune serve` as a real process with real runners."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError
from support.processes import free_ports
from support.service import waited

from autoprune.service.settings import PREFIX
from autoprune.service.store.database import open_engine

LEASE_S = 4


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
        waited(lambda: self.finished(id))

    def finished(self, id: str) -> dict[int, list[float]]:
        """Values of the finished trials of a study, by number."""
        file = self.folder / "studies" / id / "study.db"
        url = f"sqlite:///{file}" if self.database.startswith("sqlite") else self.database
        if url.startswith("sqlite") and not file.exists():
            return {}
        engine = open_engine(url)
        ended = """SELECT trials.number, value FROM trials JOIN trial_values USING (trial_id)
            JOIN studies ON studies.study_id = trials.study_id
            WHERE state IN ('COMPLETE', 'PRUNED') AND study_name = :name ORDER BY trials.number, objective"""
        try:
            with engine.connect() as connection:
                rows = connection.execute(text(ended), {"name": self.state(id)["name"]}).all()
        except (OperationalError, ProgrammingError):  # its tables are not made yet
            return {}
        finally:
            engine.dispose()
        found: dict[int, list[float]] = {}
        for number, value in rows:
            found.setdefault(number, []).append(value)
        return found

    def whole(self, id: str, before: dict[int, list[float]]) -> None:
        """The study comes to its end; nothing that was finished is lost or changed, and nothing was measured twice."""
        ended = self.ended(id)
        assert ended["state"] == "done", ended["reason"]
        after = self.finished(id)
        assert {number: after.get(number) for number in before} == before
        front = self.http.get(f"/v1/studies/{id}/front").json()
        assert front["study"]["complete"]
        measured = [str(trial["schedule"]) for trial in front["study"]["trials"] if trial.get("schedule")]
        assert len(measured) == len(set(measured))


@contextmanager
def serving(
    root: Path, folder: Path, database: str, environment: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[Service]:
    """A running service, which ends in order, with all of its processes, unless it was killed."""
    (port,) = free_ports(1)
    given = {"folder": folder, "roots": root, "port": port, "database": database, "lease_s": LEASE_S}
    given |= {"rate": "1000000/minute", **settings}
    variables = {f"{PREFIX}{name.upper()}": str(value) for name, value in given.items()} | dict(environment or {})
    process = subprocess.Popen([sys.executable, "-m", "autoprune", "serve"], env={**os.environ, **variables})
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
        assert process.wait(240) in (0, -signal.SIGKILL)
        _, alive = psutil.wait_procs(below, timeout=240)
        assert not alive, alive
