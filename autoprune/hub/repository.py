"""Layout of a repository of a schedule: the schedule, its codebooks and its card, on the hub or in a folder."""

from __future__ import annotations

import os
from pathlib import Path

from autoprune.schedule.bundle import SCHEDULE_FILE, Bundle
from autoprune.schedule.files import write_whole
from autoprune.sources import is_path

CARD_FILE = "README.md"


def is_folder(repo: str) -> bool:
    """Whether a repository is a folder on this machine, and not a name on the hub."""
    return os.path.isdir(repo) or is_path(repo)


def write_bundle(bundle: Bundle, folder: Path, card: str | None = None) -> tuple[str, ...]:
    """Writes a bundle into an existing folder, the schedule last.

    Args:
        bundle: The bundle.
        folder: The folder.
        card: The card to write beside it; None = none.

    Returns:
        Names of the files.

    Raises:
        OSError: a file cannot be written.
    """
    contents: dict[str, str | bytes] = {**bundle.codebooks}
    if card is not None:
        contents[CARD_FILE] = card
    contents[SCHEDULE_FILE] = bundle.schedule.to_json()
    for file, content in contents.items():
        write_whole(folder / file, content)
    return tuple(sorted(contents))
