"""A runner: what becomes of jobs by how their processes end, and how it ends itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.programs import listener, script
from support.service import waited

from autoprune.service.settings import Settings
from autoprune.service.store.jobs import MOST_ATTEMPTS, JobRecord, Jobs
from autoprune.service.work import runner
from autoprune.service.work.runner import Runner

Meanwhile = Callable[[JobRecord], object]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/service.db"


@pytest.fixture
def attempted(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., JobRecord]:
    """Has a runner take one job; the job as it stands when the runner would take the next."""

    def attempt(given: Settings = settings, attempts: int = 1, meanwhile: Meanwhile = lambda job: None) -> JobRecord:
        jobs = Jobs(engine, given.lease_s)
        jobs.submit("study", "a", {})
        for _ in range(attempts - 1):
            if (before := jobs.claim("r1")) is not None:
                jobs.give_back(before, counted=True)
        worker, claim, found = Runner(given), Jobs.claim, []

        def once(jobs: Jobs, name: str) -> JobRecord | None:
            if not found:
                job = claim(jobs, name)
                assert job is not None
                meanwhile(job)
                found.append(job.id)
                return job
            found.append(jobs.get(found[0]))
            worker.stop()
            return None

        monkeypatch.setattr(Jobs, "claim", once)
        worker.run()
        monkeypatch.setattr(Jobs, "claim", claim)
        return found[1]

    return attempt


@pytest.mark.parametrize(
    ("body", "attempts", "stands"),
    [
        ("exit 3", 1, ("queued", 1, "its process ended with exit code 3; see the log of its runner")),
        ("exit 3", MOST_ATTEMPTS, ("failed", 3, "its process ended with exit code 3; see the log of its runner")),
        ("kill -KILL $$", 1, ("queued", 1, "its process ended with exit code -9; see the log of its runner")),
        ("kill -TERM $$", MOST_ATTEMPTS, ("queued", MOST_ATTEMPTS - 1, "")),
        ("exit 75", 1, ("running", 1, "")),
    ],
)
def test_how_a_driver_ended(
    attempted: Callable[..., JobRecord],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    body: str,
    attempts: int,
    stands: tuple[str, int, str],
) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path / "driver", body))
    job = attempted(attempts=attempts)
    assert (job.state, job.attempts, job.reason) == stands


def test_a_job_that_was_to_end_ends_with_its_driver(
    attempted: Callable[..., JobRecord], engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", script(tmp_path / "driver", "exit 3"))
    assert attempted(meanwhile=lambda job: Jobs(engine).cancel(job.id)).state == "cancelled"


@pytest.mark.parametrize("broken", ["folder", "program"])
def test_a_machine_that_can_start_nothing_keeps_no_job_and_its_runner(
    attempted: Callable[..., JobRecord],
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    broken: str,
) -> None:
    monkeypatch.setattr(runner, "_AWAY_S", 0.01)
    if broken == "folder":
        (tmp_path / "file").touch()
        settings = settings.model_copy(update={"folder": tmp_path / "file"})
    else:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    job = attempted(settings)
    assert (job.state, job.attempts) == ("queued", 0)
    assert job.reason.startswith("its process could not be started: [Errno")


def test_the_lease_lasts_while_a_driver_starts(
    attempted: Callable[..., JobRecord], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed, renew = tmp_path / "renewed", Jobs.renew

    def noted(jobs: Jobs, job: JobRecord) -> JobRecord:
        renewed.touch()
        return renew(jobs, job)

    monkeypatch.setattr(Jobs, "renew", noted)
    until = f"for _ in $(seq 300); do [ -e {renewed} ] && exit; sleep 0.1; done"
    monkeypatch.setattr(sys, "executable", script(tmp_path / "driver", until))
    attempted(settings.model_copy(update={"lease_s": 3.0}))
    assert renewed.exists()


def test_a_driver_is_told_once_to_end(engine: Engine, settings: Settings, tmp_path: Path) -> None:
    Jobs(engine).submit("study", "a", {})
    driver = script(tmp_path / "driver", listener(tmp_path))
    for root in settings.roots:
        root.mkdir(exist_ok=True)
    code = f"import sys; from autoprune.service.work import runner; sys.executable = {driver!r}; runner.main()"
    process = subprocess.Popen([sys.executable, "-c", code], env=settings.environment(), start_new_session=True)
    try:
        waited((tmp_path / "started").exists)
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does
        waited((tmp_path / "told").exists)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert (tmp_path / "told").read_text().split() == ["TERM"]
