"""Failures as a user sees them: one line or one JSON object, and an exit code."""

from __future__ import annotations

import json
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Self

import typer

from autoprune.errors import AutopruneError
from autoprune.models.vision import import_failure

FAILED, BAD_INPUT = 1, 2
_OPTIONS = ("max_drop", "max_flops", "max_latency_ms", "max_kv", "trial", "confidence", "host", "port", "runners")
"""Fields that the rooms below name and that are options of a command."""
_NAMED = re.compile(f"`({'|'.join(_OPTIONS)})`")
_EXTRAS = {
    "onnx": "onnx",
    "onnx_ir": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "optuna_dashboard": "dashboard",
}
"""Extras of packages that are not in `all`."""


class InputError(AutopruneError, ValueError):
    """An option or argument of the command line is wrong."""


class Interrupted(Exception):  # noqa: N818 - the user's wish, not an error
    """Ctrl-C or another signal; typer would turn a KeyboardInterrupt into an exit code without a word.

    Args:
        signum: The signal.
        remedy: What goes on without the command, and how to come back to it.
    """

    def __init__(self, signum: int = signal.SIGINT, remedy: str | None = None) -> None:
        super().__init__(signum)
        self.signum = signum
        self.remedy = remedy

    @classmethod
    def by(cls, stopped: KeyboardInterrupt, remedy: str | None = None) -> Self:
        """Of a Ctrl-C, or of the signal that was raised as one."""
        return cls(getattr(stopped, "signum", signal.SIGINT), remedy)


def exit_code_of(signum: int) -> int:
    """Exit code of a program that a signal ended, as shells count."""
    return 128 + signum


def report_failure(error: Exception, argv: Sequence[str]) -> int:
    """Say what went wrong, and return the exit code.

    With ``--json`` the object goes to stdout, which then still holds exactly one, and to stderr in place of the line.

    Args:
        error: What was raised.
        argv: The command line.
    """
    if "--debug" in argv:
        traceback.print_exception(error, file=sys.stderr)
    known, code = _explained(error)
    if "--json" in argv:
        text = json.dumps({"error": known.to_dict()}, ensure_ascii=False)
        sys.stdout.write(text + "\n")
    else:
        text = f"error: {' '.join(str(known).split())}"
    sys.stderr.write(text + "\n")
    return code


def _explained(error: Exception) -> tuple[AutopruneError, int]:
    if isinstance(error, Interrupted):
        name = "Ctrl-C" if error.signum == signal.SIGINT else signal.Signals(error.signum).name
        return AutopruneError(f"stopped by {name}", remedy=error.remedy), exit_code_of(error.signum)
    if isinstance(error, AutopruneError):
        return _with_options(error), BAD_INPUT if isinstance(error, ValueError) else FAILED
    if isinstance(error, typer.TyperException):
        return _usage_error(error), BAD_INPUT
    if isinstance(error, ModuleNotFoundError):
        return import_failure(error, _EXTRAS.get(str(error.name).partition(".")[0], "all")), FAILED
    if isinstance(error, OSError) and error.filename:
        text = f"{error.strerror}: {error.filename}"
        return AutopruneError(text, remedy="check that the path exists and can be written, and the space left"), FAILED
    remedy = "this is a bug in autoprune: run again with --debug and report the traceback"
    return AutopruneError(f"{type(error).__name__}: {error}", remedy=remedy), FAILED


def _with_options(error: AutopruneError) -> AutopruneError:
    """An error that names fields, by the options that a command has for them."""
    remedy = error.remedy and _NAMED.sub(_option, error.remedy)
    field = _option(error.field) if error.field in _OPTIONS else error.field
    return AutopruneError(_NAMED.sub(_option, error.message), field=field, value=error.value, remedy=remedy)


def _option(name: str | re.Match[str]) -> str:
    plain = name if isinstance(name, str) else name[1]
    return f"--{plain.replace('_', '-')}"


def _usage_error(error: typer.TyperException) -> InputError:
    """The error of a command line that typer refuses: the option or argument, where it is about one."""
    context = getattr(error, "ctx", None)
    remedy = f"see `{context.command_path if context else 'autoprune'} --help`"
    parameter = getattr(error, "param", None)
    if parameter is None:
        return InputError(error.format_message().rstrip("."), remedy=remedy)
    field = parameter.metavar if parameter.param_type_name == "argument" else max(parameter.opts, key=len)
    message = error.message.removeprefix("Value error, ").rstrip(".")
    return InputError(message or "is missing", field=field, remedy=remedy)
