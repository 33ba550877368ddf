"""Files that a command is asked to write, checked before it starts."""

from __future__ import annotations

from pathlib import Path

from autoprune.cli.failures import InputError


def check_target(target: Path, option: str, force: bool) -> None:
    """Refuse a file that cannot be written, or that exists.

    Raises:
        InputError: naming the option and the remedy.
    """
    if not target.parent.is_dir():
        raise InputError("the folder does not exist", field=option, value=str(target), remedy="create it first")
    if target.is_dir() or (target.exists() and not force):
        kind, remedy = ("is a folder", "name a file") if target.is_dir() else ("exists", "add --force to replace it")
        raise InputError(kind, field=option, value=str(target), remedy=remedy)
