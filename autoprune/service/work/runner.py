"""A runner: takes one job after another and gives each a process of its own."""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from types import FrameType

import structlog
from sqlalchemy.exc import SQLAlchemyError

from autoprune.service.logs import configure_logs
from autoprune.service.settings import Settings
from autoprune.service.store.database import ensure_schema, open_engine
from autoprune.service.store.jobs import JobRecord, Jobs

log = structlog.get_logger(__name__)
_IDLE_S, _AWAY_S = 1.0, 5.0
_PR_SET_PDEATHSIG = 1


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

    def stop(self, signum: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Takes no further job, and stops the driver that runs."""
        self._stop.set()
        if self._driver is not None:
            self._driver.terminate()

    def run(self) -> None:
        """Works until `stop`.

        Raises:
            StorageError: the database cannot be opened, or has another schema.
        """
        engine = open_engine(self._settings.database_url)
        ensure_schema(engine)
        jobs = Jobs(engine, self._settings.lease_s)
        log.info("a runner waits for jobs", runner=self.name)
        while not self._stop.is_set():
            try:
                job = jobs.claim(self.name)
            except SQLAlchemyError as error:
                log.warning("the database is away", error=str(error).splitlines()[0])
                self._stop.wait(_AWAY_S)
                continue
            if job is None:
                self._stop.wait(_IDLE_S)
            else:
                self._drive(job)
        engine.dispose()

    def _drive(self, job: JobRecord) -> None:
        known = log.bind(runner=self.name, **{job.kind: job.id}, name=job.name)
        known.info("a job begins", attempt=job.attempts)
        output = self._settings.output_of(job.id)
        output.mkdir(parents=True, exist_ok=True)
        with open(output / "driver.log", "ab") as printed:
            self._driver = subprocess.Popen(
                [sys.executable, "-m", "autoprune.service.work.driver", job.id, str(job.epoch)],
                env=self._settings.environment(),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                preexec_fn=ending_with(os.getpid()),
            )
        if self._stop.is_set():
            self._driver.terminate()
        code = self._driver.wait()
        self._driver = None
        known.info("its driver ended", exit_code=code)


def ending_with(parent: int) -> Callable[[], None] | None:
    """What a child calls so that it gets SIGTERM when its parent dies; None where the system has no such thing."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)

    def call() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return call


def main() -> int:
    """Works until SIGTERM or Ctrl-C."""
    configure_logs()
    runner = Runner(Settings.read())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, runner.stop)
    runner.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
