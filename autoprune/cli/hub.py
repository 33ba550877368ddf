"""``autoprune hub push | pull``: schedules in repositories on the hub, or in folders of the same layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli.options import Debug, Force, Json
from autoprune.cli.output import emit, note, stderr, stdout
from autoprune.cli.prologue import Target, check_targets

_Repo = Annotated[str, typer.Argument(metavar="REPO", help="Name on the hub (owner/name), or a folder.")]


def push(
    schedule: Annotated[str, typer.Argument(metavar="SCHEDULE", help="Schedule file.")],
    repo: _Repo,
    base_model: Annotated[
        str | None,
        typer.Option("--base-model", metavar="NAME", help="Name on the hub of its model; default: where it came from."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Publish a schedule with its codebooks and a card."""
    from autoprune.hub.pushing import base_of
    from autoprune.hub.pushing import push as run
    from autoprune.hub.repository import is_folder
    from autoprune.schedule import Schedule
    from autoprune.schedule.bundle import SCHEDULE_FILE

    loaded = Schedule.load(schedule)
    if is_folder(repo):
        _check_folder(force, "REPO", Path(repo).expanduser() / SCHEDULE_FILE)
    with stderr().status("publishing"):
        pushed = run(loaded, repo, private, base_model)
    if as_json:
        emit({"repository": pushed.place, "files": pushed.files, "commit": pushed.commit})
        return
    stdout().print(f"published: {pushed.place} ({', '.join(pushed.files)})")
    if base_model is None and base_of(loaded) is None:
        note("the card names no base model; --base-model does")


def pull(
    repo: _Repo,
    output: Annotated[str, typer.Option("-o", "--output", metavar="DIR", help="Folder to write to.")] = ".",
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="REF", help="Branch, tag or commit; default: main.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fetch a schedule and its codebooks, checked by their digests."""
    from autoprune.hub.pulling import pull as run
    from autoprune.schedule.bundle import SCHEDULE_FILE

    folder = Path(output).expanduser()
    _check_folder(force, "--output", folder / SCHEDULE_FILE)
    with stderr().status("fetching"):
        files = run(repo, folder, revision)
    written = [str(folder / name) for name in files]
    if as_json:
        emit({"repository": repo, "written": written})
    else:
        stdout().print(f"written: {', '.join(written)}")


def _check_folder(force: bool, option: str, file: Path) -> None:
    """Refuse to replace a schedule, unless that is asked for; a folder that is new is made."""
    if file.parent.is_dir():
        check_targets(force, Target(option, file))
