"""A table of verdicts: which rows each schedule of a space answers rightly, and what it costs, in one small file.

The file is a NumPy archive without pickles. It holds the stages of every schedule as numbers, so that it can be read
without the code that listed the space.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from grid import space_of
from numpy.typing import NDArray

from autoprune.schedule import Keep, Schedule, Stage, parse_criterion
from autoprune.search.methods import Method
from autoprune.search.space import SearchSpace

_NONE = 255
"""Stands where a schedule has no second stage, or a withdrawal has no method."""
_STAGES = 2


@dataclass(frozen=True)
class Preset:
    """A published method, measured on the rows of a table.

    Attributes:
        name: Its name.
        schedule: Mapped to the depth of the model.
        verdicts: BoolArray[rows].
        flops: FLOPs ratio.
    """

    name: str
    schedule: Schedule
    verdicts: NDArray[np.bool_]
    flops: float


@dataclass(frozen=True)
class Table:
    """Verdicts and costs of all schedules of a space on the same rows.

    Attributes:
        space: The space.
        schedules: Its schedules, in any order.
        verdicts: BoolArray[schedules, rows], whether the answer is right.
        flops: Decoder FLOPs of the prompts of all rows, int64 [schedules]; exact.
        dense: BoolArray[rows], verdicts of the dense model.
        dense_flops: FLOPs of the dense model.
        tasks: Task of each row.
        groups: Cluster of each row.
        presets: Published methods, in the space or not.
        num_layers: Decoder layers of the model.
        visual_tokens: Visual tokens of each row.
        about: Where it comes from: model, data, measuring convention.
    """

    space: SearchSpace
    schedules: tuple[Schedule, ...]
    verdicts: NDArray[np.bool_]
    flops: NDArray[np.int64]
    dense: NDArray[np.bool_]
    dense_flops: int
    tasks: tuple[str, ...]
    groups: tuple[str, ...]
    presets: tuple[Preset, ...]
    num_layers: int
    visual_tokens: int
    about: Mapping[str, Any]

    @cached_property
    def places(self) -> dict[str, int]:
        """Place of each schedule, by its key."""
        return {schedule.key: place for place, schedule in enumerate(self.schedules)}

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """Of each schedule, over all rows."""
        return self.verdicts.mean(1)

    @property
    def ratios(self) -> NDArray[np.float64]:
        """FLOPs of each schedule relative to dense."""
        return self.flops / self.dense_flops

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.dense)

    @property
    def dense_accuracy(self) -> float:
        """Accuracy of the dense model."""
        return float(self.dense.mean())

    def losses(self, place: int, rows: Sequence[int]) -> dict[int, float]:
        """Quality of the dense model minus quality of a schedule, by row."""
        lost = self.dense[list(rows)].astype(float) - self.verdicts[place, list(rows)]
        return dict(zip(rows, lost.tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write the file."""
        about = {
            **self.about,
            "layers": self.space.layers,
            "keep": self.space.keep,
            "methods": [
                {"criterion": m.criterion.to_json_dict(), "merge": m.merge} for m in self.space.methods.values()
            ],
            "dense_flops": self.dense_flops,
            "tasks": self.tasks,
            "groups": self.groups,
            "num_layers": self.num_layers,
            "visual_tokens": self.visual_tokens,
            "presets": [
                {"name": p.name, "schedule": p.schedule.to_json_dict(), "flops": p.flops} for p in self.presets
            ],
        }
        np.savez_compressed(
            path,
            about=np.frombuffer(json.dumps(about).encode(), np.uint8),
            stages=_numbers(self.space, self.schedules),
            flops=self.flops,
            verdicts=np.packbits(self.verdicts, axis=1),
            dense=np.packbits(self.dense),
            preset_verdicts=np.packbits(np.array([p.verdicts for p in self.presets]).reshape(-1, self.rows), axis=1),
        )

    @classmethod
    def load(cls, path: Path) -> Table:
        """Read a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(file["about"].tobytes())
            methods = [Method(parse_criterion(m["criterion"]), m["merge"]) for m in about.pop("methods")]
            space = space_of(about.pop("layers"), about.pop("keep"), methods)
            tasks, groups = tuple(about.pop("tasks")), tuple(about.pop("groups"))
            presets = zip(about.pop("presets"), _bits(file["preset_verdicts"], len(tasks)), strict=True)
            return cls(
                space=space,
                schedules=_schedules(space, file["stages"]),
                verdicts=_bits(file["verdicts"], len(tasks)),
                flops=file["flops"],
                dense=_bits(file["dense"], len(tasks)),
                dense_flops=about.pop("dense_flops"),
                tasks=tasks,
                groups=groups,
                presets=tuple(
                    Preset(p["name"], Schedule.model_validate(p["schedule"]), bits, p["flops"]) for p, bits in presets
                ),
                num_layers=about.pop("num_layers"),
                visual_tokens=about.pop("visual_tokens"),
                about=about,
            )


def _bits(packed: NDArray[np.uint8], rows: int) -> NDArray[np.bool_]:
    return np.unpackbits(packed, axis=-1, count=rows).astype(bool)


def _numbers(space: SearchSpace, schedules: Sequence[Schedule]) -> NDArray[np.uint8]:
    """Layer, place of the keep and place of the method of each stage: uint8 [schedules, 2, 3]."""
    labels = list(space.methods)
    numbers = np.full((len(schedules), _STAGES, 3), _NONE, np.uint8)
    for place, schedule in enumerate(schedules):
        for number, stage in enumerate(schedule.stages):
            method = labels.index(Method(stage.criterion, bool(stage.merge)).label) if stage.criterion else _NONE
            numbers[place, number] = stage.layer, space.keep.index(stage.keep.value), method
    return numbers


def _schedules(space: SearchSpace, numbers: NDArray[np.uint8]) -> tuple[Schedule, ...]:
    methods = list(space.methods.values())

    @cache
    def stage(layer: int, level: int, method: int) -> Stage:
        keep = Keep(ratio=space.keep[level])
        return Stage(layer=layer, keep=keep) if method == _NONE else methods[method].stage(layer, keep)

    return tuple(
        Schedule(stages=tuple(stage(*each) for each in stages if each[0] != _NONE)) for stages in numbers.tolist()
    )
