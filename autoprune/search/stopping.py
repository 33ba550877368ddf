"""Ctrl-C as a wish: the first one lets the study finish what runs, the second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from autoprune.search.workers.protocol import Event, OnEvent


class StopRequest:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self.yes = False

    def __call__(self) -> bool:
        """Whether the study should stop."""
        return self.yes


@contextmanager
def noticing_interrupts(on_event: OnEvent) -> Iterator[StopRequest]:
    """Notes Ctrl-C while the block runs; only the main thread can hear it."""
    interrupted = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def note(signum: int, frame: FrameType | None) -> None:
        if interrupted.yes:
            raise KeyboardInterrupt
        interrupted.yes = True
        on_event(Event("warning", "stopping: what runs is finished first; press Ctrl-C again to end at once"))

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
