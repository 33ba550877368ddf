"""Ways into the package that must load without the optional packages: the console script and `calibrate`."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoprune.models.vision import import_failure, install

if TYPE_CHECKING:
    from autoprune.search.front import FrontFile
    from autoprune.search.spec import StudySpec

_NEEDED = {"typer": "typer", "rich": "rich", "yaml": "pyyaml"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, or say in one line what to install.

    Args:
        argv: Arguments without the program name; None = those of the process.

    Returns:
        The exit code.
    """
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        sys.stderr.write(f"autoprune: the command line needs {', '.join(missing)}: {install('all')}\n")
        return 1
    # Not at the top: the base install has no typer, and this module must still load.
    from autoprune.cli.app import run

    return run(sys.argv[1:] if argv is None else list(argv))


def calibrate(
    spec: StudySpec | Mapping[str, Any] | str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    workers: int | None = None,
) -> FrontFile:
    """Search the front of a study and write its files and its report, as ``autoprune calibrate`` does.

    A study that was stopped is resumed.

    Args:
        spec: A study file, its keys and values, or a checked study; relative paths start at the file, else at the
            working folder.
        output: Folder of the results; wins over the study's.
        workers: Worker processes, 0 = in this process; wins over the study's.

    Returns:
        The front: its points, the published methods beside them, and the control arms, with their figures.

    Raises:
        AutopruneError: the packages of a search are not installed, or one of the errors of `run_study`.
        KeyboardInterrupt: Ctrl-C; what was found by then is written.
    """
    try:
        from autoprune.report.page import write_report
        from autoprune.search.driver import run_study
        from autoprune.search.spec import StudySpec
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("autoprune"):
            raise
        raise import_failure(error, "search") from error
    given = spec.model_dump(mode="json") if isinstance(spec, StudySpec) else spec
    study = StudySpec.load(given, output=output, workers=workers)
    outcome = run_study(study)
    write_report(outcome.front, outcome.output)
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome.front
