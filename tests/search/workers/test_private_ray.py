"""A Ray that a study starts listens to this machine alone, others cannot use its files, and nothing of it stays."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.processes import processes_of_session, wait_until

from autoprune.errors import ClusterError
from autoprune.search.workers import private_ray

PROGRAM = """
import json, logging, os
from pathlib import Path
import ray
from autoprune.search.workers.private_ray import PrivateRay

def family(root):
    parents = {int(p.name): int((p / "stat").read_text().rsplit(")", 1)[1].split()[1])
               for p in Path("/proc").iterdir() if p.name.isdigit() and (p / "stat").exists()}
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found

def listening(pids):
    held = set()
    for pid in pids:
        for handle in os.listdir(f"/proc/{pid}/fd"):
            try:
                held.add(os.readlink(f"/proc/{pid}/fd/{handle}"))
            except OSError:
                pass
    lines = [line.split() for kind in ("tcp", "tcp6") for line in open(f"/proc/net/{kind}").readlines()[1:]]
    return [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in held]

own = PrivateRay(num_cpus=1, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
actor = ray.remote(type("Actor", (), {"ping": lambda self: 1})).remote()
ray.get(actor.ping.remote())
folder = own._folder
print(json.dumps({
    "listening": listening(family(os.getpid())), "folder": str(folder), "mode": folder.stat().st_mode,
    "token": Path("~/.ray/auth_token").expanduser().stat().st_mode, "umask": os.umask(0o022),
}))
own.close()
assert not folder.exists()
"""

KILLED = """
import logging, time
from autoprune.search.workers.private_ray import PrivateRay

own = PrivateRay(num_cpus=1, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
print(own._folder, flush=True)
time.sleep(1000)
"""


def test_a_ray_that_does_not_start_is_told_and_leaves_nothing(monkeypatch, tmp_path):
    def fails(**options):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(private_ray, "_ROOT", str(tmp_path))
    monkeypatch.setattr(private_ray.ray, "init", fails)
    with pytest.raises(ClusterError, match="Ray cannot be started: The current node timed out"):
        private_ray.PrivateRay()
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("a" * 32)
    (home / ".ray" / "auth_token").chmod(0o644)
    variables = {**os.environ, "HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    variables.pop("RAY_ADDRESS", None)
    line = ["bash", "-c", 'umask 022; exec "$@"', "-", sys.executable, "-c", PROGRAM]
    done = subprocess.run(line, env=variables, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs the tables of Linux")
def test_it_listens_on_the_loopback_address_alone(seen):
    loopback = ("0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000")
    assert seen["listening"]
    assert [place for place in seen["listening"] if place.partition(":")[0] not in loopback] == []


def test_its_files_are_its_owners_alone(seen):
    assert stat.S_IMODE(seen["mode"]) == 0o700
    assert stat.S_IMODE(seen["token"]) == 0o600
    assert seen["umask"] == 0o022, "that of the program itself is as before"
    assert len(seen["folder"]) < 40, "the paths of Ray's sockets must stay short"


@pytest.mark.skipif(not Path("/proc").exists(), reason="needs the processes of Linux")
def test_nothing_is_left_of_it_when_its_driver_is_killed():
    """Its agents would live for another minute, its files for ever."""

    def agents():
        names = [Path(f"/proc/{process}/comm") for process in left()]
        return [name for name in names if name.exists() and name.read_text().startswith("ray::Dashboard")]

    def left():
        return processes_of_session(driver.pid)

    variables = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    variables.pop("RAY_ADDRESS", None)
    driver = subprocess.Popen(
        [sys.executable, "-c", KILLED], env=variables, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        folder = Path(driver.stdout.readline().strip())
        assert folder.is_dir()
        wait_until(agents, driver)
        driver.send_signal(signal.SIGKILL)
        driver.communicate()
        end = time.monotonic() + 40
        while (left() or folder.exists()) and time.monotonic() < end:
            time.sleep(0.2)
        assert not left()
        assert not folder.exists()
    finally:
        for process in left():
            os.kill(process, signal.SIGKILL)
