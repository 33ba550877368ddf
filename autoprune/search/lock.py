"""One driver and one study per output folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from autoprune.errors import StudyError, StudyHeldError
from autoprune.schedule.files import read_json
from autoprune.search.front import MOST_FRONT_BYTES
from autoprune.search.study_file import read_study

_LOCK, _HOLDER = "driver.lock", "driver.json"
_ENDS = ("", "-wal", "-shm", "-journal")


class FolderClaim:
    """The right to write into an output folder.

    Attributes:
        begun: Whether the study has something there to keep; else what was made for it goes when the claim ends.
    """

    def __init__(self) -> None:
        self.begun = False


@contextmanager
def claimed_folder(folder: Path, study: str) -> Iterator[FolderClaim]:
    """Holds an output folder for a study while the block runs.

    The operating system drops the lock with the process, however it ends, so a killed driver never bars the way;
    ``driver.json`` only names the holder in the error.

    Raises:
        StudyError: another driver holds the folder, it has the results of another study, or it cannot be written.
    """
    claim, lock = FolderClaim(), folder / _LOCK
    folders, locked_before = _there(folder, *folder.parents), _there(lock)
    try:
        with _locked(folder):
            databases = [folder / f"study.db{end}" for end in _ENDS]
            files = _there(*databases) | locked_before
            try:
                _refuse_another_study(folder, study)
                yield claim
            finally:
                if not claim.begun:  # only who holds the lock may remove anything
                    for path in _there(lock, *databases) - files:
                        path.unlink(missing_ok=True)
    finally:
        for path in sorted(_there(folder, *folder.parents) - folders, reverse=True):
            with suppress(OSError):  # not empty
                path.rmdir()


def _there(*paths: Path) -> set[Path]:
    return {path for path in paths if path.exists()}


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock, holder = FileLock(folder / _LOCK), folder / _HOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
        holder.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), encoding="utf-8")
    except Timeout:
        raise StudyHeldError(
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
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _named(holder: Path) -> str:
    try:
        content = read_json(holder)
        return f"process {content['pid']} on {content['host']}"
    except (ValueError, KeyError, TypeError):
        return "process unknown"


def _refuse_another_study(folder: Path, study: str) -> None:
    written = folder / "front.json"
    if not written.exists():
        return
    name = _study_in(folder)
    if name != study:
        raise StudyError(
            f"holds the results of {'another program' if name is None else f'the study {name!r}'}",
            field="output",
            value=str(folder),
            remedy="choose another output; nothing was written over",
        )


def _study_in(folder: Path) -> str | None:
    """Name of the study whose results a folder holds: by its front, or by its study file where the front is broken."""
    try:
        found = read_json(folder / "front.json", MOST_FRONT_BYTES)
    except ValueError:
        with suppress(StudyError):
            return str(read_study(folder / "study.yaml").get("name"))
        return None
    try:
        return str(found["study"]["name"])
    except (KeyError, TypeError):
        return None
