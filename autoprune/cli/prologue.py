"""The common start of commands: files to write are checked, the model is opened, progress is shown."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoprune.cli.failures import InputError
from autoprune.cli.output import note, stderr
from autoprune.schedule.files import real_path

if TYPE_CHECKING:
    from autoprune.data.options import DataOptions
    from autoprune.data.rows import Sample
    from autoprune.data.samples import SampleSet
    from autoprune.models.loading import LoadedModel
    from autoprune.models.options import ModelOptions
    from autoprune.schedule import Schedule


STDOUT = "-"
"""Stands for standard output where a command can write there."""


@dataclass(frozen=True)
class Target:
    """A file that a command is asked to write.

    Attributes:
        option: The option that names it.
        file: None = nothing to write.
        suffix: The suffix that it must have; empty = any.
    """

    option: str
    file: str | Path | None
    suffix: str = ""


def check_targets(force: bool, *targets: Target) -> None:
    """Refuse files that cannot be written, that exist, or that are named twice, before any compute is spent.

    Raises:
        InputError: naming the option and the remedy.
    """
    taken: dict[Path, str] = {}
    for target in targets:
        if target.file is None:
            continue
        _check_target(target, Path(target.file), force)
        place = real_path(target.file)
        if place in taken:
            said = f"names a file that {taken[place]} writes"
            raise InputError(said, field=target.option, value=str(target.file), remedy="name another file")
        taken[place] = target.option


def _check_target(target: Target, file: Path, force: bool) -> None:
    def refused(message: str, remedy: str) -> InputError:
        return InputError(message, field=target.option, value=str(target.file), remedy=remedy)

    if str(file) == STDOUT:
        raise refused("is not written to stdout", "name a file; `export` can write to stdout")
    folder = real_path(file).parent  # of what a link leads to
    if target.suffix and file.suffix.lower() != target.suffix:
        raise refused(f"must end in {target.suffix}", "name it so")
    if not folder.is_dir():
        raise refused("the folder does not exist", "create it first")
    if file.is_dir():
        raise refused("is a folder", "name a file")
    if file.exists() and not file.is_file():
        raise refused("is no file but a device, a pipe or a socket", "name a file")
    if file.exists() and not force:
        raise refused("exists", "add --force to replace it")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise refused(f"cannot be written: {error.strerror}", "name a file in a folder that can be written") from None


@dataclass(frozen=True)
class Job:
    """An open model and the line on stderr that says what is being done.

    Attributes:
        model: The model with its processor.
        say: Shows a text on the line.
    """

    model: LoadedModel
    say: Callable[[str], None]

    def counts(self, what: str, unit: str = "row") -> Callable[[int, int], None]:
        """A listener of (done, total) that shows, say, ``what: row 3 of 20``."""
        return lambda done, total: self.say(f"{what}: {unit} {done} of {total}")


@contextmanager
def opened(path: str, options: ModelOptions, rows: Sequence[Sample], schedule: Schedule | None = None) -> Iterator[Job]:
    """An open model for as long as a command works on it.

    Args:
        path: A folder, or a name on the hub.
        options: How it is loaded.
        rows: What it will be shown.
        schedule: A schedule that it will run.

    Raises:
        DataError: the prompt of a row is too long.
        ModelError: the model cannot be loaded, or the schedule is not for it.
    """
    from autoprune.evaluate.lengths import check_lengths

    with stderr().status("loading the model") as status:
        loaded = open_model(path, options, schedule)
        check_lengths(loaded, rows)
        yield Job(loaded, status.update)


def open_model(path: str, options: ModelOptions, schedule: Schedule | None = None) -> LoadedModel:
    """The model, loaded after its config has shown that the schedule fits it.

    Raises:
        ModelError: the model cannot be loaded, or the schedule is not for it.
    """
    from transformers.utils import logging

    from autoprune.models.config import read_config
    from autoprune.models.loading import load_model

    logging.disable_progress_bar()  # the command shows its own
    config = read_config(path, options=options)
    if schedule is not None:
        schedule.check_model(config)
    return load_model(path, options)


def read_rows(data: str, options: DataOptions) -> SampleSet:
    """The rows of ``--data``; columns that no field takes are named on stderr.

    Raises:
        DataError: they cannot be read, or are wrong.
    """
    from autoprune.data.samples import load_samples

    rows = load_samples(data, **options.arguments)
    if rows.unread:
        note(f"{data}: columns not read: {', '.join(rows.unread)}")
    return rows


def read_visual_rows(data: str, options: DataOptions) -> SampleSet:
    """The rows of ``--data`` that show something, for commands that have nothing to do with the others.

    Raises:
        DataError: they cannot be read, or are wrong.
    """
    rows = read_rows(data, options)
    if left_out := len(rows) - len(rows.visual):
        note(f"{data}: {left_out} of {len(rows)} rows have neither image nor video and are left out")
    return rows.visual


def rows_for_prompts(data: str | None, options: DataOptions) -> Sequence[Sample]:
    """The rows of ``--data``; none without it.

    Raises:
        DataError: they cannot be read, or are wrong.
        InputError: options of data without any.
    """
    if data is not None:
        return read_visual_rows(data, options)
    defaults = type(options)()
    if given := [name for name, value in options if value != getattr(defaults, name)]:
        raise InputError("is of data, and there is none", field=given[0], remedy="add --data, or leave it out")
    return ()
