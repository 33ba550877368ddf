"""Workers and Ray's own processes die, stall or answer wrongly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from kinds import kind
from scene import HERE, MARK, Driver, Scene
from support.processes import HEAD, RAYLET, processes_of

from autoprune import presets

LAYERS = 12
"""Of the model of the study."""


@kind("worker killed while it loads", 0, workers=1)
def killed_loading(scene: Scene) -> Iterator[Driver]:
    scene.steer("loading", "5")
    driver = scene.start()
    worker = scene.loading(driver)
    time.sleep(2)
    scene.steer("loading", "0")
    os.kill(worker, signal.SIGKILL)
    yield driver


@kind("worker killed in the search", 0, workers=2)
def killed_searching(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    os.kill(scene.working(), signal.SIGKILL)
    yield driver


@kind("worker killed in the final measurements", 0, workers=1)
def killed_finishing(scene: Scene) -> Iterator[Driver]:
    driver = scene.finishing()
    os.kill(scene.working(), signal.SIGKILL)
    yield driver


@kind("candidate that kills every worker", 0, workers=1)
def poison(scene: Scene) -> Iterator[Driver]:
    scene.steer("poison", presets.for_depth("fastv", LAYERS).key)
    yield scene.start()


@kind("worker stopped for 20 s (SIGSTOP), then continued", 0, workers=1)
def stalled(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    worker = scene.working()
    os.kill(worker, signal.SIGSTOP)
    time.sleep(20)
    os.kill(worker, signal.SIGCONT)
    yield driver


@kind("Ray's memory monitor kills a worker", 1, workers=1)
def out_of_memory(scene: Scene) -> Iterator[Driver]:
    yield scene.start(RAY_memory_usage_threshold="0.001", RAY_memory_monitor_refresh_ms="100")


@kind("result lost from Ray's object store (its exception)", 0, workers=2)
def lost_object(scene: Scene) -> Iterator[Driver]:
    scene.steer("loses", "one")
    yield scene.start()


@kind("raylet killed in the search", 1, workers=1)
def raylet_searching(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    _kill(driver, RAYLET)
    yield driver


@kind("raylet killed in the final measurements", 0, 1, workers=1)
def raylet_finishing(scene: Scene) -> Iterator[Driver]:
    """Exit 0 where the worker had just measured the last row."""
    driver = scene.finishing()
    _kill(driver, RAYLET)
    yield driver


@kind("raylet killed while workers load", 1, workers=1)
def raylet_loading(scene: Scene) -> Iterator[Driver]:
    scene.steer("loading", "10")
    driver = scene.start()
    scene.loading(driver)
    _kill(driver, RAYLET)
    yield driver
    scene.steer("loading", "0")


@kind("head (GCS) killed in the search", 1, workers=1)
def head_searching(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    _kill(driver, HEAD)
    yield driver


@kind("head (GCS) killed in the final measurements", 1, workers=1)
def head_finishing(scene: Scene) -> Iterator[Driver]:
    driver = scene.finishing()
    _kill(driver, HEAD)
    yield driver


@kind("node of a worker dies, another lives", 0, workers=1)
def node(scene: Scene) -> Iterator[Driver]:
    cluster = _cluster(scene, head_cpus=0)
    driver = scene.searching(RAY_ADDRESS=_line(cluster))
    _tell(cluster, "add")
    _tell(cluster, "kill")
    yield driver
    _end(cluster)


@kind("no node has room for a worker", 2, workers=2)
def no_room(scene: Scene) -> Iterator[Driver]:
    cluster = _cluster(scene, head_cpus=0)
    yield scene.start(RAY_ADDRESS=_line(cluster))
    _end(cluster)


@kind("worker that gives NaN", 0, workers=1)
def not_a_number(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    scene.steer("nan")
    yield driver


@kind("row that raises in one worker", 1, workers=1, is_foreign=True)
def raises(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    scene.steer("raises")
    yield driver


def _kill(driver: Driver, program: str) -> None:
    (process,) = processes_of(driver.pid, program)
    os.kill(process, signal.SIGKILL)


def _cluster(scene: Scene, head_cpus: int) -> subprocess.Popen[str]:
    """A Ray of two nodes that a person runs: a head, and a node with one CPU."""
    environment = {MARK: str(scene.folder), "RAY_TMPDIR": str(scene.folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    cluster = subprocess.Popen(
        [sys.executable, str(HERE / "cluster.py"), str(head_cpus)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, env=os.environ | environment,
    )  # fmt: skip
    scene.sessions.append(cluster.pid)
    return cluster


def _tell(cluster: subprocess.Popen[str], order: str) -> str:
    assert cluster.stdin is not None
    cluster.stdin.write(order + "\n")
    cluster.stdin.flush()
    return _line(cluster)


def _end(cluster: subprocess.Popen[str]) -> None:
    assert cluster.stdin is not None
    cluster.stdin.close()
    cluster.wait(timeout=60)


def _line(cluster: subprocess.Popen[str]) -> str:
    assert cluster.stdout is not None
    return cluster.stdout.readline().strip()
