"""The commands of all containers, as docker-compose.yml has them, as plain processes on one machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import psutil
import pytest
from ray.util import get_node_ip_address
from support.compose import services
from support.postgres import Postgres
from support.processes import free_ports, processes_with
from support.service import save_root, study_in, waited

from autoprune.schedule import Schedule

MARK = "AUTOPRUNE_TEST_CONTAINERS"
TOKEN = "of-this-test-0123456789abcdef0123"

JOINING = """
from autoprune.errors import ClusterBusyError
from autoprune.search.sections import Workers
from autoprune.search.workers.joining import join_ray
try:
    join_ray(Workers())
    print("joined")
except ClusterBusyError as error:
    print(error)
"""


class Machine:
    """One machine in place of the network of containers: hosts, folders and ports of the file mean something here.

    Ports that all containers have, each in a network of its own, differ here from one to the other.
    """

    def __init__(self, folder: Path, root: Path, database: str) -> None:
        self.api = f"http://127.0.0.1:{free_ports(1)[0]}"
        (head,) = free_ports(1)
        self._words = {
            "ray-head:6379": f"{get_node_ip_address()}:{head}",
            "--port=6379": f"--port={head}",
            "autoprune:p@postgres:5432/autoprune": database.partition("://")[2],
            "/var/lib/autoprune": str(folder / "outputs"),
            "0.0.0.0": "127.0.0.1",
            "8321": self.api.rpartition(":")[2],
        }
        self._root = root
        self._rays = tempfile.mkdtemp(prefix="ac-", dir="/tmp")  # short: Ray makes sockets below it
        self.mark = uuid.uuid4().hex
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self.services = services({"POSTGRES_PASSWORD": "p", "RAY_AUTH_TOKEN": TOKEN, "DATA": str(root)})

    def environment(self, name: str) -> dict[str, str]:
        """Variables of a container, and nothing of the outside but what programs are found by."""
        given = {key: self._here(str(value)) for key, value in self.services[name]["environment"].items()}
        given = {key: str(self._root) if value == "/data" else value for key, value in given.items()}
        outside = {
            key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH", "OMP_NUM_THREADS") if key in os.environ
        }
        return {**outside, **given, MARK: self.mark, "RAY_TMPDIR": self._rays}

    def start(self, name: str) -> None:
        """Starts the command of a container."""
        command = self.services[name]["command"]
        words = shlex.split(command) if isinstance(command, str) else command
        own = iter(free_ports(12))
        ports = re.compile(r"(--(?!min|max)[a-z-]*-port)=\d+")
        words = [ports.sub(lambda found: f"{found[1]}={next(own)}", self._here(word)) for word in words]
        words = [re.sub(r"--(min|max)-worker-port=\d+ ?", "", word) for word in words]
        process = subprocess.Popen([w for w in words if w], env=self.environment(name), start_new_session=True)
        self._started[name] = process

    def healthy(self, name: str) -> bool:
        """The health check of a container."""
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        assert self._started[name].poll() is None, name
        words = [self._here(word) for word in words]
        if words[0] == "python":
            words[0] = sys.executable
        return subprocess.run(words, env=self.environment(name), capture_output=True, timeout=60).returncode == 0

    def run(self, name: str, *words: str, **variables: str) -> str:
        """As ``docker compose run --rm -e … NAME …``; what it printed."""
        environment = self.environment(name) | variables
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout

    def stopped(self, name: str) -> int:
        """As ``docker compose stop NAME``: the exit code."""
        process = self._started[name]
        process.send_signal(signal.SIGTERM)
        return process.wait(90)

    def close(self) -> None:
        for pid in processes_with(MARK, self.mark):
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
        for process in self._started.values():
            process.wait(30)
        shutil.rmtree(self._rays, ignore_errors=True)

    def _here(self, text: str) -> str:
        for word, here in self._words.items():
            text = text.replace(word, here)
        return text


@contextmanager
def machine(folder: Path, root: Path, database: str) -> Iterator[Machine]:
    found = Machine(folder, root, database)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return save_root(tmp_path / "data")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_container_as_a_process_and_a_study_from_its_submission_to_its_schedule(
    postgres: Postgres, root: Path, tmp_path: Path
) -> None:
    with machine(tmp_path, root, postgres.new_database()) as here:
        secret = json.loads(here.run("api", "autoprune", "token", "create", "me", "--role", "admin", "--json"))["token"]
        for name in ("ray-head", "api"):
            here.start(name)
        for name in ("ray-head", "api"):
            waited(lambda name=name: here.healthy(name), 120)
        for name in ("ray-worker", "runner"):
            here.start(name)
        for name, token in (("right", TOKEN), ("wrong", TOKEN[::-1])):
            said = here.run("runner", sys.executable, "-c", JOINING, RAY_AUTH_TOKEN=token)
            assert ("joined" if name == "right" else "with the cluster's token") in said
        with httpx.Client(base_url=here.api, timeout=30) as http:
            assert http.get("/v1/studies").status_code == 401
            http.headers["Authorization"] = f"Bearer {secret}"
            reply = http.post("/v1/studies", json=study_in(root, count=2))
            assert reply.status_code == 201, reply.text
            id = reply.json()["id"]

            def ended() -> dict[str, Any] | None:
                seen: dict[str, Any] = http.get(f"/v1/studies/{id}").json()
                return seen if seen["state"] not in ("queued", "running") else None

            seen = waited(ended, 280)
            assert (seen["state"], seen["reason"]) == ("done", "")
            chosen = http.get(f"/v1/studies/{id}/schedule", params={"max_drop": 1}).json()
            assert Schedule.model_validate(chosen["schedule"]).evidence["samples"] == 14
            too_large = study_in(root, "large", count=2, cpus=64, wait=1)
            id = http.post("/v1/studies", json=too_large).json()["id"]
            seen = waited(ended, 120)
            assert seen["state"] == "failed"
            assert "2 workers want 128 CPUs, Ray has 2" in seen["reason"]
        assert here.stopped("runner") == 0
        assert here.stopped("api") == 0
