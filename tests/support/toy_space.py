"""A space of schedules with known losses, for policies: no model, every row has its own difficulty."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from transformers import AutoConfig

from autoprune.pricing.lookup import PriceLookup
from autoprune.pricing.tokens import PromptCounts
from autoprune.schedule import Keep, Schedule, Stage, parse_criterion
from autoprune.search.initial import InitialSchedule
from autoprune.search.policy.costs import DataCosts
from autoprune.search.policy.protocol import SearchProblem

LAYERS, ROWS, VISUAL = 6, 80, 64
SIZES = {"hidden_size": 32, "intermediate_size": 56, "num_attention_heads": 4, "vocab_size": 99}
CONFIG = AutoConfig.for_model("llama", num_hidden_layers=LAYERS, num_key_value_heads=2, **SIZES)
KEEPS = (0.05, 0.15, 0.35, 0.6)
METHODS = {"text": 1.0, "last": 1.6, "diversity": 0.8}
"""Harm of dropping tokens by each method."""
TASKS = tuple("read" if row % 4 == 0 else "find" for row in range(ROWS))
GROUPS = tuple(f"image-{row // 2}" for row in range(ROWS))
PRICES = PriceLookup(CONFIG, [PromptCounts(VISUAL, 12 + row % 3, 2, 3) for row in range(ROWS)], 2)


def stage(layer: int, keep: float, method: str | None = None) -> Stage:
    return Stage(layer=layer, keep=Keep(ratio=keep), criterion=parse_criterion(method) if method else None)


def losses_of(schedule: Schedule) -> np.ndarray:
    """FloatArray[rows]: 1 where the schedule harms a row more than it bears; half of the rows bear everything."""
    harm, alive = 0.0, 1.0
    for s in schedule.stages:
        keep = float(s.keep.ratio or s.keep.mass or 0.0)
        method = s.criterion.label.split(" ")[0] if s.selects and s.criterion else None
        early = 1.3 - s.layer / LAYERS
        harm += METHODS.get(method or "text", 1.0) * early * np.log2((alive + 0.03) / (keep + 0.03)) / 4
        alive = keep
    bears = np.where(np.arange(ROWS) % 2 == 0, np.linspace(0.05, 1.6, ROWS), 1.5 + np.linspace(0, 1, ROWS))
    return (harm > bears).astype(float)


class ToySpace:
    """All schedules of one or two stages of the toy methods."""

    def __init__(self, methods: Sequence[str] = tuple(METHODS), size: int | None = None, most: int = 10_000) -> None:
        first = [stage(k, keep, m) for k in range(LAYERS) for keep in KEEPS for m in methods if k or m == "diversity"]
        last = first + [stage(k, 0.0) for k in range(LAYERS)]
        self._all = [Schedule(stages=(s,)) for s in last]
        self._all += [
            Schedule(stages=(a, b))
            for a, b in itertools.product(first, last)
            if a.layer < b.layer and (a.keep.ratio or 0) > (b.keep.ratio or 0)
        ]
        self._all = self._all[:most]
        self._said = size

    def size(self) -> int:
        """As many as there are, or as many as the test says."""
        return self._said or len(self._all)

    def schedules(self) -> Iterator[Schedule]:
        return iter(self._all)

    def draw(self, rng: np.random.Generator) -> Schedule:
        return self._all[int(rng.integers(len(self._all)))]

    def neighbours(self, schedule: Schedule, rng: np.random.Generator) -> list[Schedule]:
        def near(other: Schedule) -> bool:
            return len(set(other.stages) ^ set(schedule.stages)) in (1, 2)

        found = [other for other in self._all if near(other)]
        return [found[int(i)] for i in rng.permutation(len(found))[:20]]

    def holds(self, schedule: Schedule) -> bool:
        return schedule in self._all


def initial() -> list[InitialSchedule]:
    sweep = [InitialSchedule("", "sweep", Schedule(stages=(stage(k, 0.0),))) for k in range(LAYERS)]
    places = itertools.product((1, 3), (0.15, 0.6), METHODS)
    probes = [InitialSchedule("", "probe", Schedule(stages=(stage(k, keep, m),))) for k, keep, m in places]
    named = InitialSchedule("fastv", "baseline", Schedule(stages=(stage(2, 0.5, "last"),)))
    return [named, *sweep, *probes]


def problem(space: Any = None, **changes: Any) -> SearchProblem:
    values: dict[str, Any] = {
        "space": space or ToySpace(),
        "initial": tuple(initial()),
        "num_layers": LAYERS,
        "tasks": TASKS,
        "groups": GROUPS,
        "costs": ("flops",),
        "qualities": ("accuracy",),
        "price": DataCosts(PRICES, ROWS),
        "seed": 0,
    }
    return SearchProblem(**{**values, **changes})
