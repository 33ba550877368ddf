"""One driver and one study per output folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from autoprune.errors import StudyError


@contextmanager
def claimed_folder(folder: Path, study: str) -> Iterator[None]:
    """Holds an output folder for a study while the block runs.

    The operating system drops the lock with the process, however it ends, so a killed driver never bars the way;
    ``driver.json`` only names the holder in the error.

    Raises:
        StudyError: another driver holds the folder, it has the results of another study, or it cannot be written.
    """
    lock, holder = FileLock(folder / "driver.lock"), folder / "driver.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
    except Timeout:
        raise StudyError(
            f"another calibrate is writing here ({_named(holder)})",
            field="output",
            value=str(folder),
            remedy="wait until it ends, or choose another output",
        ) from None
    except OSError as error:
        lock.release()
        raise StudyError(
            f"cannot be written: {error.strerror}", field="output", value=str(folder), remedy="choose another folder"
        ) from None
    try:
        _refuse_another_study(folder, study)
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _named(holder: Path) -> str:
    try:
        content = json.loads(holder.read_text(encoding="utf-8"))
        return f"process {content['pid']} on {content['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "process unknown"


def _refuse_another_study(folder: Path, study: str) -> None:
    written = folder / "front.json"
    if not written.exists():
        return
    try:
        name = json.loads(written.read_text(encoding="utf-8"))["study"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    if name != study:
        raise StudyError(
            f"holds the results of {'another program' if name is None else f'the study {name!r}'}",
            field="output",
            value=str(folder),
            remedy="choose another output; nothing was written over",
        )
