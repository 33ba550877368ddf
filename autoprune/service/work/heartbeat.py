"""The life sign of a driver: renews its lease, hands on its events, and ends it when it may not go on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from autoprune.search.workers.protocol import Event
from autoprune.service.store.events import Events
from autoprune.service.store.jobs import JobRecord, Jobs, LeaseLostError

FENCED = 75
"""Exit code of a driver that lost its job: nothing of it may reach the database any more."""
_BEAT_S = 0.5


class Heartbeat:
    """A thread beside the study, which renews at once and from then on; a context manager.

    A second thread, which asks the database nothing, ends the process when a database that hangs keeps the first one
    from renewing.

    Args:
        jobs: The jobs.
        job: The job, just taken.
    """

    def __init__(self, jobs: Jobs, job: JobRecord) -> None:
        self._jobs, self._job = jobs, job
        self._events = Events(jobs.engine)
        self._waiting: deque[Event] = deque()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._renewed = self._due = time.monotonic()
        self.cancelled = False

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        threading.Thread(target=self._watch, name="heartbeat-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(SQLAlchemyError):  # away: only those who watch miss the last events
            self._hand_on()

    def note(self, event: Event) -> None:
        """Takes an event of the study; of progress within a phase only the newest is kept until the next beat."""
        if event.kind == "progress" and self._waiting and self._waiting[-1].kind == "progress":
            with suppress(IndexError):  # the other thread was faster
                self._waiting.pop()
        self._waiting.append(event)

    def _beat(self) -> None:
        ended = False
        while not ended:
            try:
                if time.monotonic() >= self._due:
                    self._renew()
                self._hand_on()
            except LeaseLostError:
                os._exit(FENCED)
            except SQLAlchemyError:  # away: the study itself waits for it, and the other thread watches for how long
                pass
            ended = self._ended.wait(_BEAT_S)

    def _watch(self) -> None:
        looks = 0
        while looks < 2:  # a single one may be the first after a halt of the whole process, which renews just now
            self._thread.join(_BEAT_S)
            if not self._thread.is_alive():
                return
            looks = looks + 1 if time.monotonic() - self._renewed > self._jobs.lease_s else 0
        os._exit(FENCED)

    def _renew(self) -> None:
        begun = time.monotonic()
        job = self._jobs.renew(self._job)
        self._renewed, self._due = begun, begun + self._jobs.lease_s / 3
        if job.cancelling and not self.cancelled:
            self.cancelled = True
            os.kill(os.getpid(), signal.SIGINT)

    def _hand_on(self) -> None:
        events = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if not events:
            return
        try:
            self._events.add(self._job, events)
        except SQLAlchemyError:
            self._waiting.extendleft(reversed(events))
            raise
