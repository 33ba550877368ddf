"""A runner: takes one job after another and gives each a process of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

import structlog
from sqlalchemy.exc import SQLAlchemyError

from autoprune.service.logs import configure_logs, log_outage
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_database
from autoprune.service.store.jobs import JobRecord, Jobs, LeaseLostError
from autoprune.service.work.attempts import give_up_attempt
from autoprune.service.work.heartbeat import FENCED
from autoprune.service.work.parent import end_with

log = structlog.get_logger("autoprune.service.runner")  # `__name__` is that of a script
_IDLE_S, _AWAY_S = 1.0, 5.0
_START_S = 60.0
"""Seconds in which a driver must have begun to renew its lease; until then its runner does."""


class Runner:
    """Takes jobs until it is told to stop; then lets its driver finish what it is at, and give the job back.

    Args:
        settings: Of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(2)}"
        self._stop = threading.Event()
        self._driver: subprocess.Popen[bytes] | None = None
        self._driver_told = False

    def stop(self, signum: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Takes no further job, and stops the driver that runs; once, as a second signal would end it at once."""
        if not self._stop.is_set():
            self._stop.set()
            self._stop_driver()

    def run(self) -> None:
        """Works until `stop`.

        Raises:
            StorageError: the database cannot be opened, or has another schema.
        """
        engine = open_database(self._settings.database_url)
        jobs = Jobs(engine, self._settings.lease_s)
        log.info("a runner waits for jobs", runner=self.name)
        while not self._stop.is_set():
            try:
                job = jobs.claim(self.name)
            except SQLAlchemyError as error:
                log_outage(error)
                self._stop.wait(_AWAY_S)
                continue
            if job is None:
                self._stop.wait(_IDLE_S)
            else:
                self._attempt(jobs, job)
        engine.dispose()

    def _attempt(self, jobs: Jobs, job: JobRecord) -> None:
        """Drives a job; what a driver left undone that died is given back here."""
        known = log.bind(runner=self.name, **{job.kind: job.id}, job_name=job.name)
        known.info("a job begins", attempt=job.attempts)
        try:
            code = self._drive(jobs, job)
        except OSError as error:  # this machine, not the job: a full disk, no room for a process
            known.warning("no driver can be started", error=str(error))
            _hand_back(jobs, job, f"its process could not be started: {error}", counted=False)
            self._stop.wait(_AWAY_S)
            return
        known.info("its driver ended", exit_code=code)
        if code == -signal.SIGTERM:  # before it could do so itself
            _hand_back(jobs, job, "", counted=False)
        elif code not in (0, FENCED):
            _hand_back(jobs, job, f"its process ended with exit code {code}; see the log of its runner", counted=True)

    def _drive(self, jobs: Jobs, job: JobRecord) -> int:
        output = self._settings.output_of(job.id)
        output.mkdir(parents=True, exist_ok=True)
        self._driver_told = False
        with open(output / "driver.log", "ab") as printed:
            self._driver = driver = subprocess.Popen(
                [sys.executable, "-m", "autoprune.service.work.driver", job.id, str(job.epoch), str(os.getpid())],
                env=self._settings.environment() | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                start_new_session=True,  # Ctrl-C reaches the runner alone, which tells it
            )
        if self._stop.is_set():
            self._stop_driver()
        begun = time.monotonic()
        while time.monotonic() - begun < _START_S:
            with suppress(subprocess.TimeoutExpired):
                driver.wait(self._settings.lease_s / 3)
                break
            with suppress(SQLAlchemyError, LeaseLostError):  # the driver finds out, and ends
                jobs.renew(job)
        code = driver.wait()
        self._driver = None
        return code

    def _stop_driver(self) -> None:
        if self._driver is not None and not self._driver_told:
            self._driver_told = True
            self._driver.terminate()


def _hand_back(jobs: Jobs, job: JobRecord, reason: str, *, counted: bool) -> None:
    try:
        if jobs.renew(job).cancelling:
            jobs.finish(job, "cancelled")
        else:
            give_up_attempt(jobs, job, reason, counted=counted, after_s=_AWAY_S if counted else 0.0)
    except LeaseLostError:  # its driver ended it, or another runner has it
        pass
    except SQLAlchemyError as error:  # it is taken over once the lease is over
        log_outage(error)


def main() -> int:
    """Works until SIGTERM or Ctrl-C."""
    configure_logs()
    runner = Runner(Settings.read())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, runner.stop)
    runner.run()
    return 0


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    sys.exit(main())
