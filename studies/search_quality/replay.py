"""A search replayed on a table: the policy proposes as in a study, and the table answers in place of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from verdicts import Table

from autoprune.pricing.tokens import visual_alive
from autoprune.schedule import Schedule
from autoprune.search.initial import initial_schedules
from autoprune.search.policy.protocol import CostEstimate, Policy, Proposal, SearchProblem

COST = "flops"
LEFT_OUT = 0.2
MakePolicy = Callable[[SearchProblem], Policy]


@dataclass(frozen=True)
class TablePrices:
    """FLOPs ratios of the schedules of a table: known before anything is measured, as for any fixed schedule."""

    table: Table

    def estimate(self, name: str, schedules: Sequence[Schedule]) -> CostEstimate:
        """Exact costs.

        Raises:
            KeyError: a schedule is not of the table, or another cost is asked for.
        """
        if name != COST:
            raise KeyError(name)
        places = [self.table.places[schedule.key] for schedule in schedules]
        return CostEstimate(self.table.ratios[places], np.zeros(len(places)))

    def alive(self, schedule: Schedule) -> list[float]:
        """Visual tokens alive before the first stage and after each stage."""
        return [float(count) for count in visual_alive(schedule, self.table.visual_tokens, None)]

    def note(self, schedule: Schedule, cost: Mapping[str, float], rows: int) -> None:
        """Nothing is learnt about what is known."""


@dataclass(frozen=True)
class Step:
    """A measurement that a policy was told.

    Attributes:
        place: Of the schedule in the table.
        spent: Row-forwards so far, this one included.
        begun: Schedules so far, whole or not.
        whole: Whether all rows of the schedule are measured now.
    """

    place: int
    spent: int
    begun: int
    whole: bool


@dataclass(frozen=True)
class Trajectory:
    """The steps of one replayed search, in the order of the answers."""

    steps: tuple[Step, ...]

    def whole_at(self, spent: float) -> list[int]:
        """Places of the schedules of which so many row-forwards had measured all rows."""
        return [step.place for step in self.steps if step.whole and step.spent <= spent]


def problem(table: Table, seed: int) -> SearchProblem:
    """The search problem of a table: its space, and the initial schedules of a study that are in it.

    Another seed leaves out another fifth of the single-stage probes, so that a result does not hang on one design.
    """
    initial = [s for s in initial_schedules((), table.space, table.num_layers) if s.schedule.key in table.places]
    rng = np.random.default_rng(seed)
    initial = [s for s in initial if s.origin != "probe" or rng.random() >= LEFT_OUT]
    return SearchProblem(
        space=table.space,
        initial=tuple(initial),
        num_layers=table.num_layers,
        tasks=table.tasks,
        groups=table.groups,
        costs=(COST,),
        qualities=("accuracy",),
        price=TablePrices(table),
        seed=seed,
    )


def replay(table: Table, make: MakePolicy, seed: int, budget: int, workers: int = 1) -> Trajectory:
    """Let a policy search a table.

    Args:
        table: The table.
        make: Makes the policy.
        seed: Of the policy.
        budget: Row-forwards after which no proposal is asked for.
        workers: Proposals that are open at a time; the oldest is answered first.
    """
    policy = make(problem(table, seed))
    seen: dict[int, set[int]] = {}
    waiting: list[Proposal] = []
    steps: list[Step] = []
    asked = spent = 0
    while True:
        while len(waiting) < workers and asked < budget and (proposal := policy.ask()) is not None:
            waiting.append(proposal)
            asked += len(proposal.rows)
        if not waiting:
            return Trajectory(tuple(steps))
        answered = waiting.pop(0)
        place = table.places[answered.schedule.key]
        rows = seen.setdefault(place, set())
        rows.update(answered.rows)
        spent += len(answered.rows)
        steps.append(Step(place, spent, len(seen), len(rows) == table.rows))
        policy.tell(answered.schedule, table.losses(place, answered.rows), {COST: float(table.ratios[place])})
