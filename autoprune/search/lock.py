"""One driver per output folder."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoprune.errors import StudyError


@contextmanager
def driver_lock(folder: Path) -> Iterator[None]:
    """Holds the folder while the block runs.

    The operating system drops the lock with the process, however it ends, so the file of a dead driver never bars the
    way; its content only names the holder in the error.

    Raises:
        StudyError: another driver holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "driver.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StudyError(
            f"cannot be written: {error.strerror}", field="output", value=str(folder), remedy="choose another folder"
        ) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StudyError(
                f"another calibrate is writing here ({_holder(handle)})",
                field="output",
                value=str(folder),
                remedy="wait until it ends, or choose another output",
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 1000, 0))
        return f"process {holder['pid']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "process unknown"
