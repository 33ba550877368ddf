"""A PostgreSQL server for the tests of this folder, where its programs are installed."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    found = shutil.which("postgres") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), None)
    if found is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt install postgresql)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = Path(tempfile.mkdtemp(prefix="autoprune-postgres-"))  # pytest's own folders are closed to other users
    base.chmod(0o755)
    server = Postgres(base / "server", Path(found).resolve().parent, port)
    server.create()
    server.start()
    yield server
    server.stop()
    shutil.rmtree(base)
