"""The budget of a search: distinct candidates, rows run through them, and time."""

from __future__ import annotations

import time
from dataclasses import dataclass

from autoprune.search.sections import Search
from autoprune.search.workers.protocol import Event


def searching(search: Search) -> Event:
    """The phase of the search, measured in rows where the study bounds them, else in candidates."""
    if search.row_forwards is None:
        return Event("phase", "searching", 0, search.trials)
    return Event("phase", "searching, rows", 0, search.row_forwards)


@dataclass
class Budget:
    """What a search may spend, and has spent.

    Attributes:
        trials: Most distinct candidates.
        rows: Most rows run through candidates; None = any number.
        deadline: Of the monotonic clock; None = none.
        spent: Rows so far, in earlier runs too, and those that are being measured.
    """

    trials: int
    rows: int | None
    deadline: float | None
    spent: int = 0

    @classmethod
    def of(cls, search: Search) -> Budget:
        """The budget of a study file; its minutes begin now."""
        return cls(
            search.trials, search.row_forwards, time.monotonic() + 60 * search.minutes if search.minutes else None
        )

    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.monotonic() > self.deadline

    def allows(self, rows: int, candidates: int) -> bool:
        """Whether so many more rows may be measured, of so many distinct candidates in all."""
        return (self.rows is None or self.spent + rows <= self.rows) and candidates <= self.trials
