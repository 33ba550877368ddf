"""Ends what a Ray on this machine leaves behind; a program of its own, which waits until its input ends.

    python cleaner.py FOLDER DRIVER

A driver that is killed takes Ray's node along, but not the agents of the node, which go on asking the dead head for a
minute, and not the files. Only the standard library is imported, so that waiting costs little.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

_LIMIT_S = 10.0


def clean(folder: str, driver: int) -> None:
    """Kills the processes that hold a file in a folder open, apart from the driver, and removes the folder."""
    end = time.monotonic() + _LIMIT_S
    while (left := _holding(folder) - {driver}) and time.monotonic() < end:
        for process in left:
            with suppress(OSError):  # it ended meanwhile
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)


def _holding(folder: str) -> set[int]:
    """Processes by their open files: those of Ray write over their command lines and environments.

    Elsewhere than on Linux there is nothing to read, and only the folder goes.
    """
    found = set()
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it ended, or it is somebody else's
            if os.readlink(handle).startswith(f"{folder}/"):
                found.add(int(handle.parts[2]))
    return found


if __name__ == "__main__":
    # Who stops a whole service signals this program too; it has to stay for as long as the driver needs to end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.read()
    clean(sys.argv[1], int(sys.argv[2]))
