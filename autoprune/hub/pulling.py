"""A schedule fetched from a repository, with its codebooks; needs nothing of a search."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from autoprune.hub.repository import is_folder, write_bundle
from autoprune.schedule import Schedule
from autoprune.schedule.bundle import SCHEDULE_FILE, Bundle, bundled, files_beside
from autoprune.sources import RepositoryError, hub_file


def pull(repo: str, folder: Path, revision: str | None = None) -> tuple[str, ...]:
    """Fetches a schedule and its codebooks, and nothing else, from a repository.

    Args:
        repo: A folder, or a name on the hub.
        folder: Where to write them; made if it is new.
        revision: Branch, tag or commit of a repository on the hub; None = main.

    Returns:
        Names of the files.

    Raises:
        RepositoryError: there is no such repository, or no schedule or codebook in it.
        HubError: the hub does not answer.
        ScheduleError: the schedule is none, or a codebook is not the one that it was made with.
        OSError: the folder cannot be written.
    """
    bundle = _carried(_files_of(repo, revision))
    folder.mkdir(parents=True, exist_ok=True)
    return write_bundle(bundle, folder)


def _files_of(repo: str, revision: str | None) -> Callable[[str], Path]:
    """Finds a file of a repository by its name; all files of a branch are those of one commit."""
    if is_folder(repo):
        if revision is not None:
            raise RepositoryError("a folder has no revisions", field="revision", value=revision, remedy="leave it out")

        def in_folder(name: str) -> Path:
            found = Path(repo).expanduser() / name
            if not found.is_file():
                raise RepositoryError(f"does not hold {name}", field="repository", value=repo, remedy="check the path")
            return found

        return in_folder

    commit = hub_file(repo, SCHEDULE_FILE, revision).parent.name
    return lambda name: hub_file(repo, name, commit)


def _carried(file: Callable[[str], Path]) -> Bundle:
    """The bundle that a repository holds, its codebooks checked by their digests."""
    found = file(SCHEDULE_FILE)
    schedule = Schedule.load(found)
    names = files_beside(schedule)
    for name in names:
        file(name)
    return bundled(Schedule.load(found) if names else schedule)
