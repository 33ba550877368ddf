"""The policy ``gp``: a Gaussian process of the loss, known costs, and hard rows first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np
from scipy.special import ndtr

from autoprune.evaluate.objectives import FLOPS
from autoprune.schedule import Schedule
from autoprune.search.policy.acquisition import Staircase, expected_improvement_at_uncertain_cost
from autoprune.search.policy.kernel import Profiles
from autoprune.search.policy.pool import WHOLE, Pool, around, candidates, methods_of
from autoprune.search.policy.protocol import Floats, Losses, Proposal, SearchProblem
from autoprune.search.policy.records import CandidateRecord, CandidateRecords
from autoprune.search.policy.surface import Known, Surface

_BEGUN = 3.0
"""Weight of finishing a candidate against beginning one: fewer rows are left, and only a whole one counts."""
_NOTHING = 1e-9
_LEADING, _RENEWAL = 12, 6
_FIRST_DRAWS = 200
_LARGEST = 12_500
"""Pool of a large space from which on it is drawn anew: every proposal is compared with all of it."""


class GpPolicy:
    """Initial schedules on all rows, then whatever promises the largest growth of the front.

    The loss over schedules is a Gaussian process on their retention profiles, the cost is known or estimated, and the
    expected growth of the hypervolume has a closed form. Candidates are measured in rungs: a few of the rows on which
    the initial schedules differed most, the others of them with an audit of the rest, then all rows. Those that still
    promise most compete for the next rung.

    Args:
        problem: What is searched.
    """

    def __init__(self, problem: SearchProblem) -> None:
        self._problem = problem
        self._rng = np.random.default_rng(problem.seed)
        self._records = CandidateRecords(problem)
        self._waiting = list(problem.initial)
        self._profiles: Profiles | None = None
        self._pool: Pool | None = None
        self._surfaces: list[Surface] = []
        self._leading: list[Schedule] = []
        self._turns = list(product((True, False), problem.costs, range(len(problem.qualities))))
        self._turn = self._asked = 0

    def ask(self, *, begun_only: bool = False) -> Proposal | None:
        """What to measure next; None while the first initial schedules run, and when nothing is left."""
        while self._waiting and not begun_only:
            initial = self._waiting.pop(0)
            rows = self._records.rows_left(initial.schedule)
            if rows:
                return self._proposed(Proposal(initial.schedule, rows, initial.origin, initial.name))
        if not self._records.whole():
            return None if self._records.running or begun_only else self._first_draw()
        pool = self._updated()
        place = self._best(pool, begun_only)
        if place is None:
            return None
        schedule = pool.schedules[place]
        return self._proposed(Proposal(schedule, self._records.next_rows(schedule)))

    def tell(self, schedule: Schedule, losses: Losses, cost: Mapping[str, float]) -> None:
        """Losses by row, of any schedule and any rows."""
        self._records.add(schedule, losses)
        self._problem.price.note(schedule, cost, len(losses))
        if self._pool is not None:
            if schedule.key in self._pool.places:
                self._pool.price_again([self._pool.places[schedule.key]])
            else:
                self._pool = None  # measured without having been asked for: rare

    def fail(self, schedule: Schedule) -> None:
        """Takes back its open rows and proposes it no more."""
        self._records.close(schedule)

    def _proposed(self, proposal: Proposal) -> Proposal:
        self._records.start(proposal.schedule, proposal.rows)
        return proposal

    def _first_draw(self) -> Proposal | None:
        """Something at random: without one whole candidate there is nothing to learn from."""
        for _ in range(_FIRST_DRAWS):
            schedule = self._problem.space.draw(self._rng)
            rows = self._records.rows_left(schedule)
            if rows:
                return self._proposed(Proposal(schedule, rows))
        return None

    def _updated(self) -> Pool:
        """The pool, with surfaces that know all measurements."""
        if self._pool is not None:
            known = self._known(self._pool)
            if not any(surface.is_due(seen) for surface, seen in zip(self._surfaces, known, strict=True)):
                return self._moved(self._pool, known)
        self._records.learn_rows()
        self._pool = pool = self._renewed()
        known = self._known(pool)
        distance = self._distance(pool, known[0])
        for surface, seen in zip(self._surfaces, known, strict=True):
            surface.refit(pool.x, seen, distance)
        return self._follow(pool, distance)

    def _moved(self, pool: Pool, known: Sequence[Known]) -> Pool:
        """Tells the surfaces what is new; the pool of a large space follows the front every few proposals."""
        self._asked += 1
        if self._asked % _RENEWAL == 0 and not self._holds_all:
            return self._follow(pool, self._distance(pool, known[0]))
        for surface, seen in zip(self._surfaces, known, strict=True):
            surface.update(seen)
        return pool

    def _follow(self, pool: Pool, distance: Mapping[int, float]) -> Pool:
        """Takes neighbours of what leads into the pool of a large space: of the front, and of the last best scores."""
        if self._holds_all:
            return pool
        if len(pool) > _LARGEST:
            self._pool = pool = self._renewed()
            distance = self._distance(pool, self._known(pool)[0])
        front = [pool.schedules[place] for place, behind in distance.items() if behind <= 0]
        pool.add(around(self._problem, [*front, *self._leading], self._rng))
        for surface, seen in zip(self._surfaces, self._known(pool), strict=True):
            surface.solve(pool.x, seen, distance)
        return pool

    @property
    def _holds_all(self) -> bool:
        return self._problem.space.size() <= WHOLE

    def _renewed(self) -> Pool:
        """The pool for the next while: of a small space the same, of a large one another part of it."""
        if self._pool is not None and self._holds_all:
            self._pool.price_again(self._pool.estimated)
            return self._pool
        measured = [record.schedule for record in self._records.all() if record.is_begun]
        found = candidates(self._problem, [*measured, *self._leading], self._rng)
        if self._profiles is None:
            self._profiles = Profiles(self._problem.num_layers, methods_of(found))
            count = len(self._problem.qualities) + bool(self._problem.max_drop)
            self._surfaces = [Surface(self._profiles) for _ in range(count)]
        return Pool(self._problem, self._profiles, found)

    def _known(self, pool: Pool) -> list[Known]:
        """By surface: what is known of the loss of each quality, then of the violation of the bounds."""
        begun = [record for record in self._records.all() if record.is_begun]
        records = [(pool.places[record.key], record) for record in begun if record.key in pool.places]
        found: list[Known] = []
        for quality in range(len(self._problem.qualities)):
            found.append({place: self._records.loss(record, quality) for place, record in records})
        if self._problem.max_drop:
            found.append({place: self._records.violation(record) for place, record in records})
        return found

    def _places(self, pool: Pool, records: Iterable[CandidateRecord]) -> list[int]:
        """Places of those records that the pool holds."""
        return [pool.places[record.key] for record in records if record.key in pool.places]

    def _front(self, pool: Pool, name: str, quality: int, reference: float, expected: Sequence[int] = ()) -> Staircase:
        """The staircase of candidates with all rows that keep the bounds, and of others as they are expected."""
        costs, losses = [], []
        for record in self._records.whole():
            place = pool.places.get(record.key)
            if place is None or (self._problem.max_drop and self._records.violation(record).loss > 0):
                continue
            costs.append(float(pool.costs[name].mean[place]))
            losses.append(self._records.loss(record, quality).loss)
        for place in expected:
            costs.append(float(pool.costs[name].mean[place]))
            losses.append(float(self._surfaces[quality].mean[place]))
        return Staircase.of(costs, losses, (1.0, reference))

    def _distance(self, pool: Pool, known: Known) -> dict[int, float]:
        """How far each measured candidate lies behind the front."""
        name = self._problem.costs[0]
        front = self._front(pool, name, 0, np.inf)
        levels = front.level_at(pool.costs[name].mean)
        return {place: estimate.loss - min(float(levels[place]), 1e9) for place, estimate in known.items()}

    def _best(self, pool: Pool, begun_only: bool) -> int | None:
        """Place of the candidate that is measured next."""
        records = self._records.all()
        taken = self._places(pool, (record for record in records if not self._records.is_open(record)))
        places = np.delete(np.arange(len(pool)), taken)
        if begun_only:
            places = np.intersect1d(places, self._places(pool, (record for record in records if record.is_begun)))
        if not len(places):
            return None
        states = [surface.state() for surface in self._surfaces]
        try:
            self._suppose_running(pool)
            for _ in self._turns:
                scores = self._scores(pool, places)
                best = int(scores.argmax())
                if scores[best] > _NOTHING:
                    order = np.argsort(-scores, kind="stable")[:_LEADING]
                    self._leading = [*(pool.schedules[places[i]] for i in order), *self._leading[:_LEADING]]
                    return int(places[best])
            if begun_only:  # none of them would be a point
                return None
            return int(places[self._surfaces[0].sd[places].argmax()])
        finally:
            for surface, state in zip(self._surfaces, states, strict=True):
                surface.forget(state)

    def _suppose_running(self, pool: Pool) -> None:
        places = self._places(pool, self._records.running)
        for surface in self._surfaces:
            surface.suppose(places)

    def _scores(self, pool: Pool, places: np.ndarray) -> Floats:
        """FloatArray[places]: expected growth of the front for the pair of objectives whose turn it is."""
        near, name, quality = self._turns[self._turn % len(self._turns)]
        self._turn += 1
        largest = max((self._records.loss(record, quality).loss for record in self._records.whole()), default=1.0)
        within, running = self._problem.within, self._places(pool, self._records.running)
        front = self._front(pool, name, quality, within if near else max(largest, within), running)
        surface, cost = self._surfaces[quality], pool.costs[name]
        scores = expected_improvement_at_uncertain_cost(
            front, cost.mean[places], cost.sd[places], surface.mean[places], surface.sd[places]
        )
        begun = self._places(pool, (record for record in self._records.all() if record.is_begun))
        scores[np.isin(places, begun)] *= _BEGUN
        if self._problem.max_drop:
            violation = self._surfaces[-1]
            scores *= ndtr(-violation.mean[places] / violation.sd[places])
        if self._problem.max_flops is not None:
            scores[pool.costs[FLOPS.name].mean[places] > self._problem.max_flops] = 0.0
        return scores
