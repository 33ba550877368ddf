"""What a running study tells its caller; the caller decides how to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["phase", "progress", "trial", "warning"]


@dataclass(frozen=True)
class Event:
    """One piece of news.

    Attributes:
        kind: ``phase`` = a part of the study begins (`message` names it); ``progress`` = it got further;
            ``trial`` = a trial was told (`data`: trial, state, name, values, reason); ``warning`` = something to know.
        message: One line for people.
        done: How much of the current phase is done.
        total: Of how much, if that is known.
        data: The same for programs.
    """

    kind: Kind
    message: str
    done: int = 0
    total: int | None = None
    data: dict[str, Any] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener that does nothing."""
