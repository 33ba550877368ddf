"""The protocol of a search policy, and the values that it exchanges with the loop that drives it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from autoprune.schedule import Schedule
from autoprune.search.initial import InitialSchedule, Origin

Losses = Mapping[int, float] | Mapping[int, tuple[float, ...]]
"""Per row: quality of the dense model minus quality of the candidate; a tuple where there are several qualities.

A quality of which less is better counts with its sign turned, so a loss above 0 always means worse than dense.
"""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Proposal:
    """A schedule, and rows on which it is to be measured next.

    Attributes:
        schedule: The schedule.
        rows: Places of the rows in the data, none of them told or proposed before for this schedule; in the order in
            which they should run.
        origin: Why it is proposed; of an initial schedule, its own origin.
        name: For people; empty for what the policy drew itself.
    """

    schedule: Schedule
    rows: tuple[int, ...]
    origin: Origin = "sampler"
    name: str = ""


class Policy(Protocol):
    """A rule for what to evaluate next: deterministic in the seed and the sequence of calls.

    A search is resumed by telling a new policy everything that was measured, in any order. A candidate is whole once
    all rows of the data were told; what is known of the others is no estimate of their quality, because the rows that
    were measured first are those on which schedules differ most.
    """

    def ask(self, *, begun_only: bool = False) -> Proposal | None:
        """What to measure next; None = nothing for now, and nothing at all if no proposal is open.

        Args:
            begun_only: Only further rows of candidates that were begun, for the end of a budget.
        """

    def tell(self, schedule: Schedule, losses: Losses, cost: Mapping[str, float]) -> None:
        """Losses by row, of any schedule and any rows, in one call or in parts.

        Args:
            schedule: What was measured, asked for or not.
            losses: By row.
            cost: Measured cost relative to dense by name of the objective, over the rows of this call.
        """

    def fail(self, schedule: Schedule) -> None:
        """The candidate cannot be measured any further: its open rows are taken back and it is not proposed again."""


class Drawable(Protocol):
    """The part of a search space that a policy needs."""

    def size(self) -> int:
        """Number of distinct schedules."""

    def schedules(self) -> Iterator[Schedule]:
        """All of them, in a fixed order."""

    def draw(self, rng: np.random.Generator) -> Schedule:
        """One at random."""

    def neighbours(self, schedule: Schedule, rng: np.random.Generator) -> Iterable[Schedule]:
        """Some that differ from a schedule in one choice."""

    def holds(self, schedule: Schedule) -> bool:
        """Whether the space has it."""


@dataclass(frozen=True)
class CostEstimate:
    """Costs of schedules relative to dense, before they are measured.

    Attributes:
        mean: FloatArray[schedules].
        sd: FloatArray[schedules], standard error; 0 where the cost is exact.
    """

    mean: Floats
    sd: Floats


class CostModel(Protocol):
    """Costs of schedules relative to dense over all rows of the data."""

    def estimate(self, name: str, schedules: Sequence[Schedule]) -> CostEstimate:
        """Costs by the name of an objective."""

    def alive(self, schedule: Schedule) -> list[float]:
        """Visual tokens alive before the first stage and after each stage, mean over the rows."""

    def note(self, schedule: Schedule, cost: Mapping[str, float], rows: int) -> None:
        """Takes up a cost measured on a number of rows, for costs that cannot be known in advance."""


@dataclass(frozen=True)
class SearchProblem:
    """What a policy searches.

    Attributes:
        space: The schedules.
        initial: Schedules that are measured on all rows before any other.
        num_layers: Decoder layers of the model.
        tasks: Task of each row, by its place in the data; None where a row names none.
        groups: Cluster of each row.
        costs: Names of the cost objectives.
        qualities: Names of the quality objectives, in the order in which losses hold them.
        price: Costs of schedules.
        within: Losses beyond this are of no interest.
        max_drop: Largest loss of the first quality, by task; ``*`` = over all rows.
        max_flops: Largest FLOPs ratio of a proposal; None = any.
        seed: Of every random choice.
    """

    space: Drawable
    initial: tuple[InitialSchedule, ...]
    num_layers: int
    tasks: tuple[str | None, ...]
    groups: tuple[str, ...]
    costs: tuple[str, ...]
    qualities: tuple[str, ...]
    price: CostModel
    within: float = 0.15
    max_drop: Mapping[str, float] = field(default_factory=dict)
    max_flops: float | None = None
    seed: int = 0
