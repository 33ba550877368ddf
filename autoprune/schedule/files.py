"""Writing a file whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def real_path(path: str | os.PathLike[str]) -> Path:
    """Absolute path, ``~`` and links followed; of links in a circle and of the home of nobody, the path as it is."""
    return Path(os.path.realpath(os.path.expanduser(path)))


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file in one step: a reader sees the old content or the new, and a failure leaves the old.

    A symbolic link stays one: what it leads to is replaced. A device or a pipe is written to as it is.

    Args:
        path: The file; its folder must exist.
        content: Text is written as UTF-8.

    Raises:
        OSError: the file cannot be written.
    """
    given, data = Path(path), content.encode() if isinstance(content, str) else content
    if given.exists() and not given.is_file():
        given.write_bytes(data)
        return
    target = Path(os.path.realpath(given))
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
