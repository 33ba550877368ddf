"""Where the console script starts: the one place that must work without the packages of the command line."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

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
        sys.stderr.write(f"autoprune: the command line needs {', '.join(missing)}: pip install 'autoprune[all]'\n")
        return 1
    # Not at the top: the base install has no typer, and this module must still load.
    from autoprune.cli.app import run

    return run(sys.argv[1:] if argv is None else list(argv))
