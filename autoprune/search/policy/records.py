"""What was measured of each candidate, what runs, and what that says about its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autoprune.schedule import Schedule
from autoprune.search.policy.protocol import Floats, Losses, SearchProblem
from autoprune.search.policy.rows import HARD_LOSS, RowOrder

FIRST = 10
"""Hard rows on which a new candidate is measured; so few already order candidates much as all rows do."""
_FEW = 6
"""Fewer rows than that are not worth a proposal of their own."""
_NO_LOSS = 1e-9
_SAFE_TO_HARD = 30.0
"""Least ratio of the variance of a hard row to that of a safe one: no row is certain."""


@dataclass(frozen=True)
class LossEstimate:
    """A loss over all rows, from those that were measured.

    Attributes:
        loss: Expected.
        noise: Its variance, from the rows that were not.
    """

    loss: float
    noise: float


@dataclass
class CandidateRecord:
    """Losses of one candidate.

    Attributes:
        schedule: The candidate.
        key: Of the schedule.
        losses: FloatArray[rows, qualities], NaN where it was not measured.
        running: Rows that were proposed and not told yet.
        known: How many rows were measured; counted, because every ask looks at all candidates.
    """

    schedule: Schedule
    key: str
    losses: Floats
    running: set[int]
    known: int = 0

    @property
    def seen(self) -> NDArray[np.bool_]:
        """BoolArray[rows]."""
        return ~np.isnan(self.losses[:, 0])

    @property
    def is_begun(self) -> bool:
        """Whether any row was measured."""
        return self.known > 0

    @property
    def is_whole(self) -> bool:
        """Whether all rows were measured."""
        return self.known == len(self.losses)


class CandidateRecords:
    """Losses of all candidates, and the order of the rows that follows from them."""

    def __init__(self, problem: SearchProblem) -> None:
        self._problem = problem
        self._records: dict[str, CandidateRecord] = {}
        self._closed: set[str] = set()
        self._order: RowOrder | None = None
        self._unseen: list[tuple[Floats, Floats]] = []
        self._known: dict[tuple[str, int | None], LossEstimate] = {}
        """By candidate and quality, None = violation: estimates that are not out of date."""
        size = len(problem.tasks)
        self._parts = {
            name: np.array([name in ("*", task) for task in problem.tasks], dtype=bool) for name in problem.max_drop
        }
        self._empty = np.full((size, len(problem.qualities)), np.nan)

    def add(self, schedule: Schedule, losses: Losses) -> None:
        """Takes up losses by row."""
        record = self._of(schedule)
        rows = list(losses)
        record.losses[rows] = np.array(list(losses.values()), dtype=float).reshape(len(rows), -1)
        record.known = int(record.seen.sum())
        record.running.difference_update(rows)
        for quality in (None, *range(record.losses.shape[1])):
            self._known.pop((record.key, quality), None)
        if self._order is not None:
            self._audit(record)

    def start(self, schedule: Schedule, rows: Sequence[int]) -> None:
        """Notes that rows of a candidate are proposed."""
        self._of(schedule).running.update(rows)

    def close(self, schedule: Schedule) -> None:
        """Takes back the open rows of a candidate and keeps it from being proposed again."""
        self._of(schedule).running.clear()
        self._closed.add(schedule.key)

    @property
    def running(self) -> list[CandidateRecord]:
        """Candidates with open rows, in the order in which they were first met."""
        return [record for record in self._records.values() if record.running]

    def all(self) -> list[CandidateRecord]:
        """Candidates that were told or proposed, in the order in which they were first met."""
        return list(self._records.values())

    def whole(self) -> list[CandidateRecord]:
        """Candidates with all rows."""
        return [record for record in self._records.values() if record.is_whole]

    def is_open(self, record: CandidateRecord) -> bool:
        """Whether a candidate may be proposed: not whole, not running, not closed."""
        return not (record.key in self._closed or record.running or record.is_whole)

    def rows_left(self, schedule: Schedule) -> tuple[int, ...]:
        """Rows that were neither told nor proposed, hard ones first; none of a closed candidate."""
        if schedule.key in self._closed:
            return ()
        rows = range(len(self._problem.tasks)) if self._order is None else self._order.all
        record = self._records.get(schedule.key)
        if record is None:
            return tuple(rows)
        seen = record.seen
        return tuple(row for row in rows if not seen[row] and row not in record.running)

    def next_rows(self, schedule: Schedule) -> tuple[int, ...]:
        """Rows for a proposal: the hardest ones, then the other hard ones and an audit of the safe, then all others."""
        left = self.rows_left(schedule)
        if self._order is None:
            return left
        first = self._order.first(f"{self._problem.seed}:{schedule.key}")
        open_ = set(left)
        hard = tuple(row for row in first if row in open_)
        if schedule.key not in self._records:
            return hard[:FIRST]
        return hard if len(hard) >= _FEW else left

    def learn_rows(self) -> None:
        """Learns from the whole candidates which rows are hard, once, and what rows that were not measured may hold."""
        losses = np.array([record.losses for record in self.whole()])
        if self._order is None:
            self._order = RowOrder.from_probes(losses[:, :, 0], self._problem.tasks, self._problem.groups)
            for record in self._records.values():
                self._audit(record)
        useful = losses[losses[:, :, 0].mean(1) < HARD_LOSS]
        useful = useful if len(useful) else losses
        hard, safe = list(self._order.hard), list(self._order.safe)
        self._unseen = []
        self._known.clear()
        for quality in range(losses.shape[2]):
            mean, variance = np.zeros(losses.shape[1]), np.zeros(losses.shape[1])
            for rows in filter(None, (hard, safe)):
                own = useful[:, rows, quality]
                mean[rows] = np.maximum(own.sum(0) + own.mean(), 0.0) / (len(own) + 1)
                variance[rows] = own.var()
            variance[safe] = np.maximum(variance[safe], variance[hard].max(initial=0.0) / _SAFE_TO_HARD)
            self._unseen.append((mean, variance))

    def loss(self, record: CandidateRecord, quality: int) -> LossEstimate:
        """Loss over all rows; as expected where it was not measured."""
        key = record.key, quality
        if key not in self._known:
            self._known[key] = self._over(record.losses[:, quality], quality, slice(None))
        return self._known[key]

    def violation(self, record: CandidateRecord) -> LossEstimate:
        """By how much the worst of the bounds on the loss is exceeded; ≤ 0 = all are kept."""
        key = record.key, None
        if key not in self._known:
            self._known[key] = self._violation(record)
        return self._known[key]

    def _violation(self, record: CandidateRecord) -> LossEstimate:
        worst = LossEstimate(-1.0, 0.0)
        for name, part in self._parts.items():
            if part.any():
                estimate = self._over(record.losses[:, 0], 0, part)
                excess = estimate.loss - self._problem.max_drop[name]
                worst = max(worst, LossEstimate(excess, estimate.noise), key=lambda found: found.loss)
        return worst

    def _over(self, losses: Floats, quality: int, part: slice | NDArray[np.bool_]) -> LossEstimate:
        """Rows that were not measured are expected to lose what they do on average, times the candidate's own share.

        The share is that of what it lost on its measured rows in what is lost there on average; it begins at 1, with
        the weight of the hardest row.
        """
        own, (mean, variance) = losses[part], (values[part] for values in self._unseen[quality])
        seen = ~np.isnan(own)
        if seen.all():
            return LossEstimate(float(own.mean()), 0.0)
        prior = max(float(mean.max()), _NO_LOSS)
        lost, average = prior + max(float(own[seen].sum()), 0.0), prior + float(mean[seen].sum())
        share, rest = lost / average, float(mean[~seen].sum())
        noise = share * float(variance[~seen].sum()) + rest * rest * prior * lost / average**2
        return LossEstimate((float(own[seen].sum()) + share * rest) / len(own), noise / len(own) ** 2)

    def _audit(self, record: CandidateRecord) -> None:
        """A safe row on which a useful candidate differs becomes a hard one."""
        assert self._order is not None, "learn_rows() comes first"
        losses = record.losses[:, 0]
        if np.nansum(losses) / len(losses) <= self._problem.within:
            flipped = self._order.flipped(losses)
            if flipped:
                self._order = self._order.with_hard(flipped)

    def _of(self, schedule: Schedule) -> CandidateRecord:
        key = schedule.key
        if key not in self._records:
            self._records[key] = CandidateRecord(schedule, key, self._empty.copy(), set())
        return self._records[key]
