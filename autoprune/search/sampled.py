"""Policies that draw schedules by Optuna's samplers (TPE, NSGA-II, at random) and measure them in the order of a race.

The sampler works on a study in memory that holds nothing but what the policy was told, so a draw depends on the seed
and on the calls alone, and a repeated draw leaves no trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

import numpy as np
import optuna
from optuna.trial import FixedTrial, Trial, TrialState

from autoprune.evaluate.objectives import FLOPS
from autoprune.schedule import Schedule
from autoprune.search.policy.protocol import Losses, Proposal, SearchProblem
from autoprune.search.racing import looks, race_order
from autoprune.search.sampler import CONSTRAINTS, make_sampler, silence_optuna
from autoprune.search.space import SearchSpace

_RESTLESS_DRAWS, _EXHAUSTED_DRAWS = 5, 100


@dataclass
class _State:
    """What is known of a candidate.

    Attributes:
        proposal: How it was first proposed.
        trial: Its draw, if it was drawn here.
        losses: By row.
        costs: Costs and the number of rows that they were measured on.
        wanted: Rows that were proposed and not told.
        closed: Whether it is not proposed again.
    """

    proposal: Proposal
    trial: Trial | None = None
    losses: dict[int, tuple[float, ...]] = field(default_factory=dict)
    costs: list[tuple[Mapping[str, float], int]] = field(default_factory=list)
    wanted: set[int] = field(default_factory=set)
    closed: bool = False


class SampledPolicy:
    """Initial schedules, then draws of a sampler; rows in the order of a race, from look to look.

    Args:
        problem: What is searched; its space must be `space`.
        space: The space as parameters.
        kind: The sampler.
    """

    def __init__(self, problem: SearchProblem, space: SearchSpace, kind: Literal["tpe", "nsga2", "random"]) -> None:
        silence_optuna()
        self._problem, self._space, self._kind = problem, space, kind
        size = len(problem.groups)
        self._order, self._looks = race_order(size), looks(size)
        self._states: dict[str, _State] = {}
        self._initial = deque(problem.initial)
        self._ready: deque[str] = deque()
        self._rng = np.random.default_rng(problem.seed)
        self._study = optuna.create_study(directions=["minimize"] * (len(problem.costs) + len(problem.qualities)))
        self._is_new = True

    def ask(self, *, begun_only: bool = False) -> Proposal | None:
        """The next rows of a candidate that was begun, else an initial schedule, else a draw."""
        while self._ready:
            state = self._states[self._ready.popleft()]
            if not state.closed and not state.wanted:
                return self._next(state)
        if begun_only:
            return None
        while self._initial:
            initial = self._initial.popleft()
            if initial.schedule.key not in self._states:
                return self._next(self._begin(Proposal(initial.schedule, (), initial.origin, initial.name)))
        return self._draw()

    def tell(self, schedule: Schedule, losses: Losses, cost: Mapping[str, float]) -> None:
        """Losses by row, of any schedule and any rows."""
        state = self._states.get(schedule.key) or self._begin(Proposal(schedule, ()))
        state.losses |= {row: loss if isinstance(loss, tuple) else (loss,) for row, loss in losses.items()}
        state.costs.append((cost, len(losses)))
        state.wanted -= losses.keys()
        if state.closed or state.wanted:
            return
        if len(state.losses) < len(self._order):
            self._ready.append(schedule.key)
        else:
            state.closed = True
            self._complete(state)

    def fail(self, schedule: Schedule) -> None:
        """Takes back its open rows and proposes it no more."""
        state = self._states.get(schedule.key) or self._begin(Proposal(schedule, ()))
        if state.trial is not None and not state.closed:
            self._study.tell(state.trial, state=TrialState.PRUNED if state.losses else TrialState.FAIL)
        state.closed = True
        state.wanted.clear()

    def _begin(self, proposal: Proposal, trial: Trial | None = None) -> _State:
        state = self._states[proposal.schedule.key] = _State(proposal, trial)
        return state

    def _next(self, state: _State) -> Proposal:
        """All rows of a published method, which is never stopped; of others those up to the next look."""
        first = state.proposal
        unseen = [row for row in self._order if row not in state.losses]
        counts = self._looks[-1:] if first.origin == "baseline" else self._looks
        rows = next(rows for count in counts if (rows := [row for row in self._order[:count] if row in set(unseen)]))
        state.wanted |= set(rows)
        return Proposal(first.schedule, tuple(rows), first.origin, first.name)

    def _draw(self) -> Proposal | None:
        """A schedule that is new and within the bound on the FLOPs; None if there seems to be none."""
        for draws in range(_EXHAUSTED_DRAWS):
            if (self._is_new and draws == 0) or draws == _RESTLESS_DRAWS:
                # A sampler that repeats itself is left for draws at random.
                kind = self._kind if draws < _RESTLESS_DRAWS else "random"
                seed, told = self._problem.seed, len(self._states) + draws
                self._study.sampler = make_sampler(kind, seed, told, bool(self._problem.max_drop))
            self._is_new = draws >= _RESTLESS_DRAWS
            trial = self._study.ask()
            schedule = self._space.suggest(trial)
            if schedule.key not in self._states and self._is_affordable(schedule):
                return self._next(self._begin(Proposal(schedule, ()), trial))
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def _is_affordable(self, schedule: Schedule) -> bool:
        bound = self._problem.max_flops
        return bound is None or float(self._problem.price.estimate(FLOPS.name, [schedule]).mean[0]) <= bound

    def _complete(self, state: _State) -> None:
        """Tells the sampler of a candidate with all rows; one without parameters says nothing to it."""
        losses = np.array([state.losses[row] for row in range(len(self._order))], dtype=float)
        costs = [self._mean_cost(state, name) for name in self._problem.costs]
        values = [*costs, *losses.mean(0).tolist()]
        violations = [self._violation(losses[:, 0], name) for name in self._problem.max_drop]
        if state.trial is not None:
            state.trial.set_user_attr(CONSTRAINTS, violations)
            self._study.tell(state.trial, values)
            return
        schedule = state.proposal.schedule
        params = self._space.params(schedule)
        if params is None:
            return
        fixed = FixedTrial(params)
        self._space.suggest(fixed)
        self._study.add_trial(
            optuna.trial.create_trial(
                params=dict(fixed.params),
                distributions=dict(fixed.distributions),
                values=values,
                user_attrs={CONSTRAINTS: violations},
                system_attrs={CONSTRAINTS: violations} if violations else {},
            )
        )

    def _mean_cost(self, state: _State, name: str) -> float:
        known = [(cost[name], rows) for cost, rows in state.costs if name in cost]
        return sum(cost * rows for cost, rows in known) / sum(rows for _, rows in known)

    def _violation(self, losses: np.ndarray, name: str) -> float:
        """By how much a bound on the loss is exceeded; ≤ 0 = kept."""
        own = [loss for loss, task in zip(losses.tolist(), self._problem.tasks, strict=True) if name in ("*", task)]
        return fmean(own) - self._problem.max_drop[name] if own else 0.0
