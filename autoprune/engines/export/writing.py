"""A folder that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autoprune.engines.export.run_script import FACTS
from autoprune.errors import ModelError


@contextmanager
def fresh_folder(folder: Path, replace: bool) -> Iterator[Path]:
    """A new folder to fill; it takes its name when the block ends, and is gone where that fails.

    Args:
        folder: Its name; nothing may be there but an empty folder.
        replace: Whether an earlier compiled model may be there.

    Raises:
        ModelError: something else is there, or the folder above is missing.
    """
    folder = folder.resolve()  # behind links, and by a name of its own where it is the current one
    _check(folder, replace)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)  # that of a temporary folder is for its owner alone
        if folder.is_dir():
            shutil.rmtree(folder)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check(folder: Path, replace: bool) -> None:
    def refused(message: str, remedy: str) -> ModelError:
        return ModelError(message, field="--output", value=str(folder), remedy=remedy)

    if not folder.parent.is_dir():
        raise refused("the folder above does not exist", "create it first")
    if folder.exists() and not folder.is_dir():
        raise refused("is a file", "name a folder")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / FACTS).is_file():
        raise refused("is a folder that holds other files", "name a new folder")
    if not replace:
        raise refused("holds a compiled model", "add --force to replace it")
