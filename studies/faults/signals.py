"""Signals to the driver: it ends in order, or is killed in the middle of something."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

from kinds import kind
from scene import Driver, Scene

_KILLED = -signal.SIGKILL


@kind("SIGTERM in the search", 143, workers=1)
def sigterm(scene: Scene) -> Iterator[Driver]:
    yield from _in_search(scene, signal.SIGTERM)


@kind("SIGHUP in the search", 129, workers=1)
def sighup(scene: Scene) -> Iterator[Driver]:
    yield from _in_search(scene, signal.SIGHUP)


@kind("Ctrl-C in the search", 130, workers=1)
def sigint(scene: Scene) -> Iterator[Driver]:
    yield from _in_search(scene, signal.SIGINT)


@kind("Ctrl-C twice while a task takes minutes", 130, workers=1)
def sigint_twice(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    scene.steer("slow", "300")
    time.sleep(2)
    driver.signal(signal.SIGINT, signal.SIGINT)
    yield driver


@kind("SIGTERM while a task takes minutes", 143, workers=1)
def sigterm_once(scene: Scene) -> Iterator[Driver]:
    driver = scene.searching()
    scene.steer("slow", "300")
    time.sleep(2)
    driver.signal(signal.SIGTERM)
    yield driver


@kind("SIGTERM while workers load", 143, workers=1)
def sigterm_loading(scene: Scene) -> Iterator[Driver]:
    scene.steer("loading", "300")
    driver = scene.start()
    scene.loading(driver)
    driver.signal(signal.SIGTERM)
    yield driver
    scene.steer("loading", "0")


@kind("Ctrl-C while workers load", 130, workers=1)
def sigint_loading(scene: Scene) -> Iterator[Driver]:
    scene.steer("loading", "300")
    driver = scene.start()
    scene.loading(driver)
    driver.signal(signal.SIGINT)
    yield driver
    scene.steer("loading", "0")


@kind("SIGTERM while the driver imports", 143, -signal.SIGTERM)
def sigterm_importing(scene: Scene) -> Iterator[Driver]:
    driver = scene.start()
    time.sleep(2)
    driver.signal(signal.SIGTERM)
    yield driver


@kind("Ctrl-C in the final measurements", 130, workers=1)
def sigint_finishing(scene: Scene) -> Iterator[Driver]:
    driver = scene.finishing()
    driver.signal(signal.SIGINT)
    yield driver


@kind("driver killed in the search", _KILLED, workers=1)
def killed_searching(scene: Scene) -> Iterator[Driver]:
    yield from _in_search(scene, signal.SIGKILL)


@kind("driver killed in the final measurements", _KILLED, workers=1)
def killed_finishing(scene: Scene) -> Iterator[Driver]:
    driver = scene.finishing()
    driver.signal(signal.SIGKILL)
    yield driver


@kind("driver killed while it writes front.json", _KILLED)
def killed_writing(scene: Scene) -> Iterator[Driver]:
    scene.steer("dies_writing")
    driver = scene.start()
    driver.end(300)
    (scene.folder / "dies_writing").unlink()
    yield driver


def _in_search(scene: Scene, number: int) -> Iterator[Driver]:
    driver = scene.searching()
    driver.signal(number)
    yield driver
