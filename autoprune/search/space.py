"""The search space: numbers that a sampler draws, each draw a valid schedule.

A stage's layer is drawn among the layers after the stage before it, and its keep among the smaller ones, so nothing can
contradict itself. A stage for which no layer or no smaller keep is left does not exist. Stages that withdraw have no
criterion to draw. All ranges are fixed, as samplers that model the parameters jointly want them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from autoprune.schedule import Criterion, Keep, Schedule, Stage
from autoprune.search.sections import Space
from autoprune.search.spec_problems import acts_at_input


class Suggests(Protocol):
    """What the space asks of a trial; an Optuna trial, or a `FixedTrial` in tests."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """An integer in [low, high]."""

    def suggest_float(self, name: str, low: float, high: float) -> float:
        """A number in [low, high]."""

    def suggest_categorical(self, name: str, choices: tuple[str, ...]) -> Any:
        """One of the choices."""


@dataclass(frozen=True)
class SearchSpace:
    """The space of one study on one model.

    Attributes:
        layers: Layers that a stage may stand before, increasing.
        keep: Shares of the original visual tokens, increasing.
        criteria: Criteria by their label.
        max_stages: Most stages of a schedule.
    """

    layers: tuple[int, ...]
    keep: tuple[float, ...]
    criteria: Mapping[str, Criterion]
    max_stages: int

    @classmethod
    def of(cls, space: Space, num_layers: int) -> SearchSpace:
        """The space that a study file describes; ``layers: all`` = every layer at which a criterion can act."""
        first = 0 if any(acts_at_input(c) for c in space.criteria) else 1
        layers = range(first, num_layers) if space.layers == "all" else space.layers
        criteria = {criterion_label(c): c for c in space.criteria}
        return cls(tuple(sorted(layers)), tuple(sorted(space.keep)), criteria, space.max_stages)

    def suggest(self, trial: Suggests) -> Schedule:
        """The schedule of one draw."""
        stages: list[Stage] = []
        place, level = -1, len(self.keep)
        for number in range(1, trial.suggest_int("stages", 1, self.max_stages) + 1):
            if number == 1:
                place = trial.suggest_int("layer_1", 0, len(self.layers) - 1)
                level = trial.suggest_int("keep_1", 0, len(self.keep) - 1)
            else:
                room = len(self.layers) - 1 - place
                if room == 0 or level == 0:
                    break
                place += 1 + _pick(trial.suggest_float(f"layer_{number}", 0.0, 1.0), room)
                level = _pick(trial.suggest_float(f"keep_{number}", 0.0, 1.0), level)
            stages.append(self._stage(trial, number, self.layers[place], self.keep[level]))
        return Schedule(stages=tuple(stages))

    def params(self, schedule: Schedule) -> dict[str, Any] | None:
        """The draw that gives this schedule, or None if the space does not hold it."""
        stages = schedule.stages
        if not 1 <= len(stages) <= self.max_stages:
            return None
        drawn: dict[str, Any] = {"stages": len(stages)}
        place, level = -1, len(self.keep)
        labels = {criterion: label for label, criterion in self.criteria.items()}
        for number, stage in enumerate(stages, start=1):
            if stage.layer not in self.layers or stage.keep.ratio not in self.keep:
                return None
            to, down = self.layers.index(stage.layer), self.keep.index(stage.keep.ratio)
            if down >= level:
                return None
            if number == 1:
                drawn |= {"layer_1": to, "keep_1": down}
            else:
                drawn[f"layer_{number}"] = _unpick(to - place - 1, len(self.layers) - 1 - place)
                drawn[f"keep_{number}"] = _unpick(down, level)
            place, level = to, down
            if stage.selects:
                if stage.criterion not in labels or (stage.layer == 0 and not acts_at_input(stage.criterion)):
                    return None
                drawn[self._criterion_name(number, stage.layer)] = labels[stage.criterion]
        return drawn

    def _stage(self, trial: Suggests, number: int, layer: int, keep: float) -> Stage:
        if keep == 0:
            return Stage(layer=layer, keep=Keep(ratio=0.0))
        labels = tuple(label for label, c in self.criteria.items() if layer > 0 or acts_at_input(c))
        label = trial.suggest_categorical(self._criterion_name(number, layer), labels)
        return Stage(layer=layer, keep=Keep(ratio=keep), criterion=self.criteria[label])

    def _criterion_name(self, number: int, layer: int) -> str:
        # Fewer criteria work before layer 0, and a categorical parameter must always have the same choices.
        fewer = layer == 0 and not all(acts_at_input(c) for c in self.criteria.values())
        return "criterion_input" if fewer else f"criterion_{number}"


def criterion_label(criterion: Criterion) -> str:
    """A short name that tells criteria apart: ``text``, ``random seed=3`` and so on."""
    options = criterion.model_dump(exclude_defaults=True)
    options.pop("name", None)
    name = str(options.pop("rows", criterion.name))
    return " ".join([name, *(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in options.items())])


def _pick(share: float, count: int) -> int:
    return min(int(share * count), count - 1)


def _unpick(index: int, count: int) -> float:
    return (index + 0.5) / count
