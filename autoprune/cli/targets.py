"""Files that a command is asked to write, checked before it starts."""

from __future__ import annotations

from pathlib import Path

from autoprune.cli.failures import InputError


def check_target(file: str | Path | None, option: str, force: bool, suffix: str = "") -> None:
    """Refuse a file that cannot be written, that exists, or that has another suffix; None is nothing to write.

    Raises:
        InputError: naming the option and the remedy.
    """
    if file is None:
        return
    target = Path(file)
    if suffix and target.suffix.lower() != suffix:
        raise InputError(f"must end in {suffix}", field=option, value=str(file), remedy="name it so")
    if not target.parent.is_dir():
        raise InputError("the folder does not exist", field=option, value=str(target), remedy="create it first")
    if target.is_dir() or (target.exists() and not force):
        kind, remedy = ("is a folder", "name a file") if target.is_dir() else ("exists", "add --force to replace it")
        raise InputError(kind, field=option, value=str(target), remedy=remedy)
