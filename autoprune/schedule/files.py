"""Reading a file up to a bound, and writing one whole or not at all."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Final

MOST_BYTES: Final = 10_000_000
"""Size of a JSON file that a person or a small program writes."""
_DEEPEST = 100


def real_path(path: str | os.PathLike[str]) -> Path:
    """Absolute path, ``~`` and links followed; of links in a circle and of the home of nobody, the path as it is."""
    return Path(os.path.realpath(os.path.expanduser(path)))


def read_text(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> str:
    """The text of a file, UTF-8.

    Raises:
        ValueError: it cannot be read, is larger, or is no text; with the reason.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read(most_bytes + 1)  # by the bytes that come, not by the size that a device claims
        if len(content) > most_bytes:
            raise ValueError(f"is larger than {most_bytes:,} bytes")
        return content.decode()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def read_json(path: str | os.PathLike[str], most_bytes: int = MOST_BYTES) -> Any:
    """The value of a JSON file, in whose objects every key stands once.

    Raises:
        ValueError: it cannot be read, is too large, too deep, or no JSON; with the reason.
    """
    text = read_text(path, most_bytes)
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None
    level = [value]
    for _ in range(_DEEPEST):
        level = [part for whole in level if isinstance(whole, dict | list) for part in _parts(whole)]
    if level:
        raise ValueError("is nested too deeply")
    return value


def _parts(whole: dict[str, Any] | list[Any]) -> list[Any]:
    return list(whole.values()) if isinstance(whole, dict) else whole


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:100]!r} stands twice in one object")
    return unique


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
    partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}.partial")
    try:
        partial.write_bytes(data)
        os.replace(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(target)  # what a full disk refuses is a write, which knows no name
        raise
