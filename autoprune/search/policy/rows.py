"""Hard rows: those on which schedules differ. They are measured first; the safe ones are audited."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprune.search.policy.protocol import Floats

HARD_LOSS = 0.3
"""Schedules that lose more fail on rows that no useful schedule fails on, so they do not say which rows are hard."""
_VARIANCE_LEFT = 0.005
AUDITED = 0.1
"""Share of the safe rows on which a candidate is audited while it is unfinished."""
_FLIP = 4.0  # times the least variance among the hard rows


@dataclass(frozen=True)
class RowOrder:
    """Rows in the order in which a candidate is measured.

    Attributes:
        hard: Places of the hard rows, hardest first.
        safe: Places of the others.
        centre: FloatArray[rows], mean loss of each row over the probes.
        flip: Squared distance from the centre from which on a safe row is not safe.
    """

    hard: tuple[int, ...]
    safe: tuple[int, ...]
    centre: Floats
    flip: float

    @classmethod
    def from_probes(cls, losses: Floats, tasks: Sequence[str | None], groups: Sequence[str]) -> RowOrder:
        """Hard rows by descending variance over probes, until they hold nearly all of it.

        Rows of a task, and of groups of a size, that have no hard row are represented by their hardest one.

        Args:
            losses: FloatArray[probes, rows], of schedules with all rows.
            tasks: Task of each row.
            groups: Cluster of each row.
        """
        useful = losses[losses.mean(1) < HARD_LOSS]
        if len(useful) < 2:
            useful = losses
        variance = useful.var(0)
        order = np.argsort(-variance, kind="stable")
        held = np.cumsum(variance[order])
        count = int(np.searchsorted(held, (1 - _VARIANCE_LEFT) * held[-1])) + 1 if held[-1] > 0 else 0
        hard = [int(row) for row in order[:count]]
        for kind in _kinds(tasks, groups):
            if not kind & set(hard):
                hard.append(next(int(row) for row in order if int(row) in kind))
        least = float(min((variance[row] for row in hard if variance[row] > 0), default=0.0))
        safe = tuple(row for row in range(len(variance)) if row not in set(hard))
        return cls(tuple(hard), safe, useful.mean(0), _FLIP * least)

    def flipped(self, losses: Floats) -> tuple[int, ...]:
        """Safe rows on which a schedule differs from the probes as it would on a hard one.

        Args:
            losses: FloatArray[rows]; NaN where it was not measured.
        """
        safe = np.array(self.safe, dtype=int)
        with np.errstate(invalid="ignore"):
            far = (losses[safe] - self.centre[safe]) ** 2 > self.flip
        return tuple(int(row) for row in safe[far])

    def with_hard(self, rows: Sequence[int]) -> RowOrder:
        """The same order with further hard rows, behind the others."""
        new = set(rows)
        return RowOrder((*self.hard, *rows), tuple(r for r in self.safe if r not in new), self.centre, self.flip)

    def first(self, name: str) -> tuple[int, ...]:
        """Rows on which a new candidate is measured: the hard ones, and a share of the safe ones drawn by its name."""
        count = round(AUDITED * len(self.safe))
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
        audited = sorted(rng.choice(np.array(self.safe, dtype=int), count, replace=False).tolist()) if count else []
        return (*self.hard, *audited)

    @property
    def all(self) -> tuple[int, ...]:
        """All rows, hard ones first."""
        return (*self.hard, *self.safe)


def _kinds(tasks: Sequence[str | None], groups: Sequence[str]) -> list[set[int]]:
    """Rows of each task, and rows of groups of each size: a group of many rows is another kind than a single."""
    sizes = Counter(groups)
    by_kind: dict[object, set[int]] = {}
    for row, (task, group) in enumerate(zip(tasks, groups, strict=True)):
        by_kind.setdefault(("task", task), set()).add(row)
        by_kind.setdefault(("size", sizes[group]), set()).add(row)
    return list(by_kind.values())
