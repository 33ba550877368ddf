"""A PostgreSQL server for tests."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.processes import free_ports


def postgres_programs() -> Path | None:
    """Folder of the programs of a server; None where none is installed."""
    found = shutil.which("postgres") or next(map(str, Path("/usr/lib/postgresql").glob("*/bin/postgres")), None)
    return Path(found).resolve().parent if found else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[Postgres]:
    """A server on a free port, in a folder that is removed afterwards."""
    (port,) = free_ports(1)
    base = Path(tempfile.mkdtemp(prefix="autoprune-postgres-"))  # pytest's own folders are closed to other users
    base.chmod(0o755)
    server = Postgres(base / "server", programs, port)
    server.create()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(base)


class Postgres:
    """A server in a folder of its own; it can be stopped and started like one that goes away."""

    def __init__(self, folder: Path, programs: Path, port: int) -> None:
        self.folder, self.programs, self.port = folder, programs, port
        # The server refuses to run as root.
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        self.url = f"postgresql+psycopg://autoprune@127.0.0.1:{port}/postgres"
        self._databases = 0

    def create(self) -> None:
        self.folder.mkdir()
        if self._user:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._do("initdb", "-U", "autoprune", "-A", "trust", "-D", str(self.folder / "data"))

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        self._do("pg_ctl", "-D", f"{self.folder}/data", "-l", f"{self.folder}/log", "-w", "-o", options, "start")

    def stop(self) -> None:
        self._do("pg_ctl", "-D", f"{self.folder}/data", "-m", "immediate", "-w", "stop")

    def new_database(self) -> str:
        """URL of an empty database."""
        self._databases += 1
        self._do("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "autoprune", f"study{self._databases}")
        return self.url.removesuffix("postgres") + f"study{self._databases}"

    def _do(self, program: str, *arguments: str) -> None:
        who = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        subprocess.run([self.programs / program, *arguments], check=True, capture_output=True, cwd="/", **who)
