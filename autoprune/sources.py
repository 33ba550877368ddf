"""Where models and data sets come from: a path on this machine, or a name on the hub."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOT_ASKED = "check the path; the hub is not asked for a name whose first part is a folder here"
"""Remedy for a path at which nothing is, by `is_path`."""
ANSWER_S = 4.0
"""Seconds in which the hub must answer; after that, what it gave before is looked for in the local cache."""
_FILES = (".json", ".jsonl", ".parquet", ".safetensors", ".yaml", ".yml")


def is_path(given: str, base: Path | None = None) -> bool:
    """Whether a text can only be meant as a path, so that the hub is not asked for it.

    Args:
        given: Path or name.
        base: Folder at which relative paths start; None = the working folder.
    """
    if "://" in given:
        return False
    first, slash, rest = given.partition("/")
    if given.startswith((".", "/", "~")) or "/" in rest or Path(given).suffix.lower() in _FILES:
        return True
    return bool(slash) and os.path.exists((base or Path()) / first)  # unlike Path's, False for what can be no path


@contextmanager
def hub_or_cache(given: str | Path) -> Iterator[None]:
    """A block in which libraries ask the hub if it answers, and otherwise take what is in the local cache.

    Without it they try again for half a minute where there is no network.

    Args:
        given: What they will look for; nobody is asked for a path that exists.
    """
    from huggingface_hub import constants

    if os.path.exists(given):
        yield
        return
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers() -> bool:
    from huggingface_hub import constants, get_session

    heard = threading.Event()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=ANSWER_S)
        except Exception:  # noqa: BLE001 - each HTTP library that the hub's client may use has classes of its own
            return
        heard.set()

    asking = threading.Thread(target=ask, daemon=True)  # a name server that is silent is not bounded by the timeout
    asking.start()
    asking.join(ANSWER_S)
    return heard.is_set()
