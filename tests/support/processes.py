"""Drivers of studies as processes of their own, and the processes that they start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
RAYLET, HEAD = "raylet/raylet", "gcs/gcs_server"
"""Programs of Ray."""


def start_calibrate(
    study: Path, backend: str, *arguments: str, modules: Path | None = None, **options: Any
) -> subprocess.Popen[str]:
    """``autoprune calibrate STUDY --json`` with a backend.

    Args:
        study: Study file.
        backend: Module of the backend.
        arguments: Further ones of the command.
        modules: Further folder that modules are imported from.
        options: Of `Popen`; `env` adds to the environment.
    """
    folders = [str(TESTS), *([str(modules)] if modules else []), os.environ.get("PYTHONPATH", "")]
    added = {"PYTHONPATH": os.pathsep.join(folders)} | options.pop("env", {})
    command = [sys.executable, "-m", "support.calibrate", backend, str(study), *arguments]
    return subprocess.Popen(command, text=True, env=os.environ | added, **options)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def processes_of(parent: int, program: str) -> list[int]:
    """Processes of a program that this parent has started."""
    return [pid for pid in _processes() if _parent(pid) == parent and program in _read(pid, "cmdline")]


def processes_with(variable: str, value: str) -> list[int]:
    """Processes that were started with this variable in their environment, and live."""
    wanted = f"{variable}={value}"
    return [pid for pid in _processes() if wanted in _read(pid, "environ").split("\0") and _state(pid) != "Z"]


def processes_of_session(session: int) -> list[int]:
    """Living processes of a session: those that its first process started, and theirs.

    Ray's agents are found by nothing else: they write over their command lines and environments.
    """
    return [pid for pid in _processes() if (_stat(pid) or ["Z"] * 4)[3] == str(session) and _state(pid) != "Z"]


def actors_of(driver: int) -> list[int]:
    """Worker processes of a driver that has a Ray of its own; a worker loads its model for as long as it is new."""
    return [actor for raylet in processes_of(driver, RAYLET) for actor in processes_of(raylet, "EngineActor")]


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str], limit_s: float = 600) -> None:
    """Returns once something holds while a process runs."""
    end = time.monotonic() + limit_s
    while process.poll() is None and time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"it did not come to that: exit {process.poll()}")


def _processes() -> list[int]:
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:  # it ended meanwhile
        return ""


def _stat(pid: int) -> list[str]:
    return _read(pid, "stat").rpartition(")")[2].split()


def _state(pid: int) -> str:
    return (_stat(pid) or ["Z"])[0]


def _parent(pid: int) -> int:
    return int((_stat(pid) or ["Z", "0"])[1])
