"""Many studies queued at a real api, taken by many runners, while somebody reads."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
from searching import study

from autoprune.service.settings import Settings
from autoprune.service.store.database import open_engine
from autoprune.service.store.jobs import Jobs

_WORK_S = 0.05


def queue(folder: Path, url: str | None, studies: int, runners: int) -> dict[str, list[float]]:
    """Milliseconds of each call: submit, claim, and reads of the list and of one study, before and meanwhile."""
    spec = study(folder, 100, 0, "gp", None)
    request = {
        "model": {"path": spec.model.path},
        "data": {"calibration": {"path": spec.data.calibration.path}},
        "workers": {"count": 0},
    }
    with _serving(folder, url) as (http, settings):
        taken: dict[str, list[float]] = {
            name: [] for name in ("submit", "claim", "list", "one", "list, taken", "one, taken")
        }
        ids = []
        for number in range(studies):
            begun = time.perf_counter()
            reply = http.post("/v1/studies", json={"name": f"study {number}", **request})
            taken["submit"].append(1000 * (time.perf_counter() - begun))
            reply.raise_for_status()
            ids.append(reply.json()["id"])
        for number in range(50):
            _read(http, ids[number % len(ids)], taken, "")
        threads = [threading.Thread(target=_work, args=(settings, taken["claim"])) for _ in range(runners)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        number = 0
        while any(thread.is_alive() for thread in threads):
            _read(http, ids[number % len(ids)], taken, ", taken")
            number += 1
        seconds = time.perf_counter() - begun
        left = http.get("/v1/studies", params={"state": "queued"}).json()["studies"]
    assert not left, "every study was taken"
    assert len(taken["claim"]) == studies, "and none twice"
    print(f"{studies} studies, {runners} runners: all taken in {seconds:.1f} s")
    for name, found in taken.items():
        low, high = np.percentile(found, [50, 99])
        print(f"| {name} | {len(found)} | {low:.0f} | {high:.0f} | {max(found):.0f} |", flush=True)
    return taken


def _work(settings: Settings, claims: list[float]) -> None:
    """A runner without a driver: takes jobs and ends them."""
    engine = open_engine(settings.database_url)
    jobs = Jobs(engine)
    name = f"{os.getpid()}:{threading.get_ident()}"
    while True:
        begun = time.perf_counter()
        job = jobs.claim(name)
        if job is None:
            break
        claims.append(1000 * (time.perf_counter() - begun))
        time.sleep(_WORK_S)
        jobs.finish(job, "done")
    engine.dispose()


def _read(http: httpx.Client, id: str, taken: dict[str, list[float]], when: str) -> None:
    for name, path in (("list", "/v1/studies"), ("one", f"/v1/studies/{id}")):
        begun = time.perf_counter()
        http.get(path).raise_for_status()
        taken[name + when].append(1000 * (time.perf_counter() - begun))


@contextmanager
def _serving(folder: Path, url: str | None) -> Iterator[tuple[httpx.Client, Settings]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given: dict[str, Any] = {
        "folder": folder / "service",
        "roots": (folder,),
        "port": port,
        "runners": 0,
        "rate": "1000000/minute",
        "database": url,
    }
    settings = Settings.read(**given)
    process = subprocess.Popen(
        [sys.executable, "-m", "autoprune", "serve"], env=settings.environment(), stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            while True:
                try:
                    http.get("/readyz").raise_for_status()
                    break
                except httpx.HTTPError:
                    if process.poll() is not None:
                        raise
                    time.sleep(0.3)
            yield http, settings
    finally:
        process.terminate()
        process.wait(60)
