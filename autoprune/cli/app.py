"""The program: the table of commands, and a line and an exit code for whatever they raise."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

import autoprune
from autoprune.cli import hub, remote, service
from autoprune.cli.ablate import ablate
from autoprune.cli.apply_check import apply_check
from autoprune.cli.bench import bench
from autoprune.cli.calibrate import calibrate
from autoprune.cli.codebook import codebook
from autoprune.cli.compile import compile_
from autoprune.cli.dashboard import dashboard
from autoprune.cli.doctor import doctor
from autoprune.cli.examples import ENVIRONMENT, examples_of
from autoprune.cli.export import export
from autoprune.cli.failures import Interrupted, report_failure
from autoprune.cli.fitprune import fitprune
from autoprune.cli.flow import flow
from autoprune.cli.groups import with_groups, with_option
from autoprune.cli.options import Quiet
from autoprune.cli.output import note, quietly
from autoprune.cli.presets import presets
from autoprune.cli.report import report
from autoprune.cli.sweep import sweep
from autoprune.cli.transfer import transfer
from autoprune.cli.verify import verify

app = typer.Typer(
    name="autoprune",
    epilog=ENVIRONMENT,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=False,
)
COMMANDS: dict[str, Callable[..., Any]] = {
    "calibrate": calibrate,
    "report": report,
    "export": export,
    "apply-check": apply_check,
    "transfer": transfer,
    "verify": verify,
    "doctor": doctor,
    "bench": bench,
    "compile": compile_,
    "sweep": sweep,
    "fitprune": fitprune,
    "flow": flow,
    "codebook": codebook,
    "ablate": ablate,
    "presets": presets,
    "dashboard": dashboard,
    "serve": service.serve,
    "runner": service.runner,
}
GROUPS: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "hub": (
        "Publish and fetch schedules: repositories on the hub, or folders.",
        {"push": hub.push, "pull": hub.pull},
    ),
    "remote": (
        "Studies on a service; its token is read from AUTOPRUNE_TOKEN.",
        {
            "submit": remote.submit,
            "list": remote.listed,
            "status": remote.status,
            "watch": remote.watch,
            "cancel": remote.cancel,
            "schedule": remote.schedule,
        },
    ),
    "token": (
        "Make, list and revoke the tokens of a service.",
        {"create": service.create, "list": service.listed, "revoke": service.revoke},
    ),
    "db": ("The tables of a service.", {"upgrade": service.upgrade}),
}
"""What a group of commands is for, and its commands."""


def _entered(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with ``--quiet``; a signal ends it with an error of its own, which typer does not swallow."""

    @wraps(command)
    def call(*, quiet: bool, **given: Any) -> Any:
        try:
            with quietly(quiet):
                return command(**given)
        except KeyboardInterrupt as stopped:
            raise Interrupted.by(stopped) from None

    return with_option(call, "quiet", Quiet, False)


for _name, _command in COMMANDS.items():
    app.command(_name, epilog=examples_of(_name))(_entered(with_groups(_command)))
for _name, (_help, _members) in GROUPS.items():
    _group = typer.Typer(help=_help)
    for _member, _command in _members.items():
        _group.command(_member)(_entered(with_groups(_command)))
    app.add_typer(_group, name=_name)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"autoprune {autoprune.__version__}\n")
        raise typer.Exit


@app.callback()
def _program(
    shown: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find, price and apply visual-token pruning schedules for multimodal LLMs."""


def run(argv: Sequence[str]) -> int:
    """Run one command line; nothing escapes.

    Returns:
        0 = done, 1 = the job failed, 2 = bad input, 130 = Ctrl-C.
    """
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            code = app(args=list(argv), prog_name="autoprune", standalone_mode=False)
        except Exception as error:  # noqa: BLE001 - the border of the program: whatever it is becomes a line and a code
            return report_failure(error, argv)
    return code if isinstance(code, int) else 0


def _show_warning(message: Warning | str, category: type[Warning], filename: str, *where: Any, **more: Any) -> None:
    """Our own warnings are for the user; those between libraries are not."""
    if Path(filename).is_relative_to(Path(__file__).parents[1]):
        note(f"warning: {message}")
