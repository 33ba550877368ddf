"""The table of kinds of faults: a function that does the harm, and how the driver must end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from scene import Driver, Scene
from support.postgres import Postgres

Harm = Callable[..., Iterator[Driver]]
"""Harms a study and yields the driver that it is about; what follows the ``yield`` mends what a person would mend."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        name: For people.
        harm: Takes the scene, and the server if there is one.
        exits: Exit codes that are right; negative = the signal that killed it.
        workers: Worker processes.
        database: Where the trials are.
        limit_s: Seconds after which the driver counts as hung.
        is_foreign: Whether the cause is an exception of foreign code, which the message may call a bug.
        needs_mount: Whether it makes a small disk.
        sections: Further keys of the study file.
    """

    name: str
    harm: Harm
    exits: tuple[int, ...]
    workers: int
    database: Literal["sqlite", "postgresql"]
    limit_s: float
    is_foreign: bool
    needs_mount: bool
    sections: dict[str, Any] = field(default_factory=dict)

    def begin(self, scene: Scene, server: Postgres | None) -> Iterator[Driver]:
        return self.harm(scene, server) if self.database == "postgresql" else self.harm(scene)


KINDS: list[Kind] = []


def kind(
    name: str,
    *exits: int,
    workers: int = 0,
    database: Literal["sqlite", "postgresql"] = "sqlite",
    limit_s: float = 300,
    is_foreign: bool = False,
    needs_mount: bool = False,
    **sections: Any,
) -> Callable[[Harm], Harm]:
    """Adds a function to the table."""

    def add(harm: Harm) -> Harm:
        KINDS.append(Kind(name, harm, exits, workers, database, limit_s, is_foreign, needs_mount, sections))
        return harm

    return add
