"""Signals during a study: the first lets it finish what runs, the next one, or 20 seconds, end it."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from autoprune.search.workers.protocol import Event, OnEvent

GRACE_S = 20.0
"""Seconds in which what runs may be finished."""
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class StoppedBySignal(KeyboardInterrupt):
    """Ends a study at once.

    Args:
        signum: The signal that asked for it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class StopRequest:
    """Whether a signal asked the study to stop; calling it says so.

    Attributes:
        signum: The first signal; None = none yet.
        at_once: Whether nothing is worth waiting for, so that the first signal ends the study.
    """

    def __init__(self, on_event: OnEvent) -> None:
        self.signum: int | None = None
        self.at_once = False
        self._on_event = on_event
        self._timer = threading.Timer(GRACE_S, _thread.interrupt_main)
        self._timer.daemon = True

    def note(self, signum: int, frame: FrameType | None = None) -> None:
        """Takes a signal.

        Raises:
            StoppedBySignal: it is not the first one, or there is nothing to wait for.
        """
        first, self.signum = self.signum is None, self.signum or signum
        if not first or self.at_once:
            raise StoppedBySignal(self.signum)
        self._timer.start()
        how = "press Ctrl-C again" if signum == signal.SIGINT else "send it again"
        self._on_event(Event("warning", f"stopping: what runs may finish within {GRACE_S:.0f} s; {how} to end at once"))

    def __call__(self) -> bool:
        """Whether the study should stop."""
        return self.signum is not None

    @contextmanager
    def ending_at_once(self) -> Iterator[None]:
        """A part of the study that has nothing to finish.

        Raises:
            StoppedBySignal: a signal came before.
        """
        if self.signum is not None:
            raise StoppedBySignal(self.signum)
        self.at_once = True
        try:
            yield
        finally:
            self.at_once = False

    def close(self) -> None:
        """Nothing is ended any more."""
        self._timer.cancel()


@contextmanager
def noticing_signals(on_event: OnEvent) -> Iterator[StopRequest]:
    """A request to stop that Ctrl-C, SIGTERM and SIGHUP make while the block runs; they reach the main thread only.

    A SIGHUP that is ignored, as under ``nohup``, stays so.
    """
    stop = StopRequest(on_event)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = [n for n in _SIGNALS if n == signal.SIGINT or before[n] is not signal.SIG_IGN]
    for number in taken:
        signal.signal(number, stop.note)
    try:
        yield stop
    except KeyboardInterrupt as stopped:  # Ray raises one of its own in place of ours
        raise StoppedBySignal(stop.signum or signal.SIGINT) from stopped
    finally:
        stop.close()
        for number in taken:
            signal.signal(number, before[number])
