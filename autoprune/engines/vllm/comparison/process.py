"""An engine in a process of its own: its memory ends with it, and what it prints goes to a file."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoprune.errors import AutopruneError

_LINES = 3
_ENDS_S = 20


class EngineError(AutopruneError, RuntimeError):
    """An engine did not start, or failed as it ran."""


Ask = Callable[..., Any]
"""Calls a method of the object in the other process by its name; it returns something, not None."""


@contextmanager
def engine_process(
    name: str, make: Callable[..., Any], *given: Any, environment: Mapping[str, str | None]
) -> Iterator[Ask]:
    """An object in a new process, for as long as the block runs.

    Args:
        name: Name of the engine in errors.
        make: Makes the object there, from what is given; all of it can be pickled.
        given: Arguments of `make`.
        environment: Variables that differ there; None = not set.

    Raises:
        AutopruneError: raised there on purpose.
        EngineError: any other failure there.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    with tempfile.TemporaryDirectory(prefix="autoprune-") as folder:
        log = Path(folder, "log.txt")
        process = context.Process(target=_serve, args=(there, log, dict(environment), make, given), name=name)
        process.start()
        there.close()

        def ask(method: str, *arguments: Any) -> Any:
            here.send((method, arguments))
            return _received(here, name, log)

        try:
            _received(here, name, log)  # made
            yield ask
        finally:
            here.close()
            process.join(_ENDS_S)
            if process.is_alive():
                process.terminate()
                process.join()


def _received(here: Connection, name: str, log: Path) -> Any:
    try:
        done, value = here.recv()
    except (EOFError, ConnectionError):
        said = f"ended by itself; its last words: {_last_words(log)}"
        raise EngineError(said, field=name, remedy="see that it has enough memory") from None
    if isinstance(value, EngineError):
        raise EngineError(f"{value.message}; its last words: {_last_words(log)}", field=name, remedy=value.remedy)
    if not done:
        raise value
    return value


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    return " / ".join([line.strip() for line in lines if line.strip()][-_LINES:])


def _serve(there: Connection, log: Path, environment: dict[str, str | None], make: Any, given: tuple[Any, ...]) -> None:
    """The other process: one answer when the object is made, and one for each call, until nobody listens."""
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(written, stream)
    for variable, value in environment.items():
        os.environ.pop(variable, None)
        if value is not None:
            os.environ[variable] = value
    try:
        made = _tried(there, make, given)
        if made is None:
            return
        there.send((True, None))
        while True:
            method, arguments = there.recv()
            answer = _tried(there, getattr(made, method), arguments)
            if answer is not None:
                there.send((True, answer))
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return


def _tried(there: Connection, call: Callable[..., Any], given: tuple[Any, ...]) -> Any:
    """What a call returns; None if it failed, which is told."""
    try:
        return call(*given)
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is told on the other side
        there.send((False, _told(error, multiprocessing.current_process().name)))
        return None


def _told(error: BaseException, name: str) -> AutopruneError:
    """The error that was raised on purpose, if there is one behind this; otherwise one that says it in a line."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, AutopruneError):
            return seen
        if isinstance(seen, ValidationError):  # pydantic keeps what a validator raised
            causes = [detail.get("ctx", {}).get("error") for detail in seen.errors()]
            found = next((cause for cause in causes if isinstance(cause, AutopruneError)), None)
            if found is not None:
                return found
        seen = seen.__cause__ or seen.__context__
    return EngineError(
        f"{type(error).__name__}: {' '.join(str(error).split())[:600]}",
        field=name,
        remedy="set what it needs with --engine-option",
    )
