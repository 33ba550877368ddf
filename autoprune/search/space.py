"""The search space: numbers that a sampler draws, each draw a valid schedule.

A stage's layer is drawn among the layers after the stage before it, and its keep among the smaller ones, so nothing can
contradict itself. A stage for which no layer or no smaller keep is left does not exist. A criterion is drawn only where
it can serve; before a layer that none can serve, a stage withdraws. All ranges are fixed, as samplers that model the
parameters jointly want them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from autoprune.schedule import Criterion, Keep, Schedule, Stage
from autoprune.search.sections import Space


class Suggests(Protocol):
    """Interface of a trial that the space draws from: an Optuna trial, or a `FixedTrial` in tests."""

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
        layers: Layers that a stage may stand before, increasing. A criterion can serve each of them, or `keep` holds 0.
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
        """The space that a study file describes.

        ``layers: all`` = from the first layer that a criterion can serve; deeper ones that none can serve are for
        withdrawals.
        """
        layers = tuple(sorted(space.layers)) if space.layers != "all" else _all_layers(space, num_layers)
        return cls(layers, tuple(sorted(space.keep)), {c.label: c for c in space.criteria}, space.max_stages)

    def labels_at(self, layer: int) -> tuple[str, ...]:
        """Labels of the criteria that can serve a stage before this layer."""
        return tuple(label for label, criterion in self.criteria.items() if criterion.problem_at(layer) is None)

    def suggest(self, trial: Suggests) -> Schedule:
        """The schedule of one draw."""
        stages: list[Stage] = []
        place, level = -1, len(self.keep)
        for number in range(1, trial.suggest_int("stages", 1, self.max_stages) + 1):
            room = len(self.layers) - 1 - place
            if room == 0 or level == 0:
                break
            if number == 1:
                place = trial.suggest_int("layer_1", 0, len(self.layers) - 1)
            else:
                place += 1 + _pick(trial.suggest_float(f"layer_{number}", 0.0, 1.0), room)
            layer = self.layers[place]
            labels = self.labels_at(layer)
            if not labels:
                level = 0
            elif number == 1:
                level = trial.suggest_int("keep_1", 0, len(self.keep) - 1)
            else:
                level = _pick(trial.suggest_float(f"keep_{number}", 0.0, 1.0), level)
            criterion = None
            if self.keep[level] > 0:
                name = self._criterion_name(number, layer, labels)
                criterion = self.criteria[trial.suggest_categorical(name, labels)]
            stages.append(Stage(layer=layer, keep=Keep(ratio=self.keep[level]), criterion=criterion))
        return Schedule(stages=tuple(stages))

    def params(self, schedule: Schedule) -> dict[str, Any] | None:
        """The draw that gives a schedule which prunes like this one, or None if the space does not hold it."""
        stages = schedule.stages
        if not 1 <= len(stages) <= self.max_stages or schedule.positions != "keep":
            return None
        drawn: dict[str, Any] = {"stages": len(stages)}
        place, level = -1, len(self.keep)
        for number, stage in enumerate(stages, start=1):
            if stage.layer not in self.layers or stage.keep.ratio not in self.keep or stage.merge:
                return None
            to, down = self.layers.index(stage.layer), self.keep.index(stage.keep.ratio)
            if down >= level:
                return None
            labels = self.labels_at(stage.layer)
            drawn[f"layer_{number}"] = to if number == 1 else _unpick(to - place - 1, len(self.layers) - 1 - place)
            if labels:
                drawn[f"keep_{number}"] = down if number == 1 else _unpick(down, level)
            place, level = to, down
            if stage.selects and stage.criterion:
                if stage.criterion.label not in labels:
                    return None
                drawn[self._criterion_name(number, stage.layer, labels)] = stage.criterion.label
        return drawn

    def _criterion_name(self, number: int, layer: int, labels: tuple[str, ...]) -> str:
        # A categorical parameter must always have the same choices, so where fewer criteria serve it is another one.
        if len(labels) == len(self.criteria):
            return f"criterion_{number}"
        return "criterion_input" if layer == 0 else f"criterion_{number} of {', '.join(labels)}"


def _all_layers(space: Space, num_layers: int) -> tuple[int, ...]:
    served = [k for k in range(num_layers) if any(c.problem_at(k) is None for c in space.criteria)]
    return tuple(range(served[0], num_layers)) if served and 0.0 in space.keep else tuple(served)


def _pick(share: float, count: int) -> int:
    return min(int(share * count), count - 1)


def _unpick(index: int, count: int) -> float:
    return (index + 0.5) / count
