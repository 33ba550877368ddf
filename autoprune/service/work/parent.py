"""A process that ends with the one that started it, so that a killed service leaves nothing behind that works on."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """Lets the kernel send SIGTERM to this process once the thread that started it ends; at once where it has ended.

    The child asks for this itself: code that a parent with many threads runs between fork and exec can crash. Without
    effect where the system has no such thing (anything but Linux).

    Args:
        parent: Process id of the one that started this one.
    """
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGTERM)
