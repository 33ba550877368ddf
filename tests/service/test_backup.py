"""Backup and restore as the manual describes them: what was there is there again, on both databases."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from support.fronts import save_front
from support.postgres import Postgres

import autoprune.service
from autoprune.service.api.app import create_app
from autoprune.service.settings import PREFIX, Settings
from autoprune.service.store.database import open_engine
from autoprune.service.store.jobs import Jobs

MANUAL = (Path(autoprune.service.__file__).parent / "README.md").read_text(encoding="utf-8")


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
    if not settings.on_server:
        settings = settings.model_copy(update={"database": None})  # in the folder, as it is by default
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
    before = seen(settings)
    assert before["schedules"]["versions"]
    backed_up, restored = settings, settings
    programs = Path(sys.executable).parent
    if settings.on_server:
        server: Postgres = request.getfixturevalue("postgres")
        programs, restored = server.programs, settings.model_copy(update={"database": SecretStr(server.new_database())})
    (tmp_path / "backup").mkdir()
    backup, restore = MANUAL.split("Stop the runners")[1].split("```bash\n")[1:3]
    run_lines(backup, backed_up, tmp_path / "backup", programs)
    shutil.rmtree(settings.folder)
    run_lines(restore, restored, tmp_path / "backup", programs)
    assert seen(restored) == before
    with tarfile.open(tmp_path / "backup" / "folder.tar") as folder:
        assert not [name for name in folder.getnames() if "service.db" in name]


def run_lines(block: str, settings: Settings, backup: Path, programs: Path) -> None:
    """The lines of a block of the manual that are for a database, in bash."""
    wanted = ("both", "PostgreSQL" if settings.on_server else "SQLite")
    lines = [line for line in block.split("```")[0].splitlines() if line.rpartition("# ")[2] in wanted]
    assert len(lines) == len(wanted)
    text = "\n".join(lines).replace("/backup", str(backup)).replace("autoprune-service", str(settings.folder))
    paths = {"PATH": os.pathsep.join([str(programs), os.environ["PATH"]])}
    environment = {**os.environ, **paths, f"{PREFIX}DATABASE": settings.database_url}
    subprocess.run(["bash", "-e", "-c", text], check=True, env=environment, timeout=120)
