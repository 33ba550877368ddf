"""Backup and restore as the manual describes them: what was there is there again, on both databases."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.engine import make_url
from support.fronts import save_front
from support.postgres import Postgres

from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_engine
from autoprune.service.store.jobs import Jobs


def seen(settings: Settings) -> dict[str, Any]:
    """Everything that a user can ask for, in a process that has just started."""
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        listed = client.get("/v1/studies").json()["studies"]
        return {
            "studies": listed,
            "events": [client.get(f"/v1/studies/{one['id']}/events").text for one in listed if one["ended"]],
            "fronts": [client.get(f"/v1/studies/{one['id']}/front").json() for one in listed],
            "schedules": client.get("/v1/schedules/best/versions").json(),
            "audit": client.get("/v1/audit").json(),
        }


def test_a_backup_brings_everything_back(
    settings: Settings, study: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        id = client.post("/v1/studies", json=study).json()["id"]
        save_front(settings.output_of(id))
        engine = open_engine(settings.database_url)
        job = Jobs(engine).claim("a runner")
        assert job is not None
        Jobs(engine).finish(job, "done")
        engine.dispose()
        assert client.post("/v1/schedules/best/versions", json={"study": id, "max_drop": 0.5}).status_code == 201
        client.post("/v1/studies", json={**study, "name": "waiting"})
    before, copy = seen(settings), tmp_path / "copy"
    assert before["schedules"]["versions"]
    shutil.copytree(settings.folder, copy)
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite":
        file = Path(str(url.database))
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as target:
            source.backup(target)
        for part in tmp_path.glob("service.db*"):
            part.unlink()
        shutil.copy(tmp_path / "copy.db", file)
        restored = settings
    else:
        server: Postgres = request.getfixturevalue("postgres")
        where = ["-h", "127.0.0.1", "-p", str(server.port), "-U", "autoprune"]
        dump = [server.programs / "pg_dump", *where, "-Fc", "-f", str(tmp_path / "dump"), str(url.database)]
        subprocess.run(dump, check=True)
        new = server.new_database()
        onto = [server.programs / "pg_restore", *where, "-d", str(make_url(new).database), str(tmp_path / "dump")]
        subprocess.run(onto, check=True)
        restored = Settings(**{**dict(settings), "database": new})
    shutil.rmtree(settings.folder)
    shutil.copytree(copy, restored.folder)
    assert seen(restored) == before
