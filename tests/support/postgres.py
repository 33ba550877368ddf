"""A PostgreSQL server for tests."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path


class Postgres:
    """A server in a folder of its own; it can be stopped and started like one that goes away."""

    def __init__(self, folder: Path, programs: Path, port: int) -> None:
        self.folder, self.programs, self.port = folder, programs, port
        # The server refuses to run as root.
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        self.url = f"postgresql+psycopg://autoprune@127.0.0.1:{port}/postgres"

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

    def _do(self, program: str, *arguments: str) -> None:
        who = {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if self._user else {}
        subprocess.run([self.programs / program, *arguments], check=True, capture_output=True, cwd="/", **who)
