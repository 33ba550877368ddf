"""Ctrl-C during a study: the first one lets it finish what runs, the second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from autoprune.search.workers.protocol import Event, OnEvent


class StopRequest:
    """Whether Ctrl-C was pressed; calling it says so."""

    def __init__(self) -> None:
        self._pressed = False

    def press(self) -> None:
        """Notes one Ctrl-C."""
        self._pressed = True

    def __call__(self) -> bool:
        """Whether the study should stop."""
        return self._pressed


@contextmanager
def noticing_interrupts(on_event: OnEvent) -> Iterator[StopRequest]:
    """A request to stop that Ctrl-C makes while the block runs; signals reach the main thread only."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(signum: int, frame: FrameType | None) -> None:
        if stop():
            raise KeyboardInterrupt
        stop.press()
        on_event(Event("warning", "stopping: what runs is finished first; press Ctrl-C again to end at once"))

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
