"""What becomes of a job, by what ended the work on it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import Engine

from autoprune.errors import AutopruneError, ClusterBusyError, ClusterError, StudyError, StudyHeldError
from autoprune.service.settings import Settings
from autoprune.service.store.jobs import MOST_ATTEMPTS, Jobs
from autoprune.service.work import driver

BUSY = ClusterBusyError("the study waits for 2 GPUs; 1 is free", remedy="start it again later")
HELD = StudyHeldError("another calibrate is running this study", remedy="wait until it ends")
DEAD = ClusterError("Ray's head died", remedy="start Ray again")


@pytest.mark.parametrize(
    ("error", "taken", "state", "attempts", "said"),
    [
        (BUSY, 1, "queued", 0, "the study waits for 2 GPUs; 1 is free"),
        (BUSY, MOST_ATTEMPTS, "queued", MOST_ATTEMPTS - 1, "the study waits for 2 GPUs; 1 is free"),
        (HELD, MOST_ATTEMPTS, "queued", MOST_ATTEMPTS - 1, "another calibrate is running this study"),
        (DEAD, 1, "queued", 1, "Ray's head died"),
        (DEAD, MOST_ATTEMPTS, "failed", MOST_ATTEMPTS, "Ray's head died; start Ray again"),
        (StudyError("9 workers want 9 CPUs, Ray has 4"), 1, "failed", 1, "9 workers want 9 CPUs, Ray has 4"),
    ],
)
def test_what_becomes_of_a_job(
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    error: AutopruneError,
    taken: int,
    state: str,
    attempts: int,
    said: str,
) -> None:
    def work(*given: Any) -> bool:
        raise error

    jobs = Jobs(engine)
    jobs.submit("study", "a", {})
    for _ in range(taken - 1):
        if (before := jobs.claim("r1")) is not None:
            jobs.give_back(before, counted=True)
    job = jobs.claim("r1")
    assert job is not None
    monkeypatch.setattr(driver, "WORK", {**driver.WORK, "study": work})
    monkeypatch.setattr(driver.signal, "signal", lambda *given: None)
    driver.run_job(jobs, job, Settings())
    found = jobs.get(job.id)
    assert (found.state, found.attempts, found.reason) == (state, attempts, said)


def test_its_life_sign_does_not_wait_for_what_the_work_needs() -> None:
    code = "import sys, autoprune.service.work.driver; print(sys.modules.keys() & {'torch', 'ray', 'transformers'})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
