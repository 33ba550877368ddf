"""What the tables are made of: results on held-out rows, and what the project's commands wrote into the run folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from remembered import Remembered
from tradeoff import Measure

from autoprune import Schedule
from autoprune.data.samples import load_samples
from autoprune.models.loading import load_model
from autoprune.models.options import ModelOptions
from autoprune.schedule import Criterion, parse_criterion

_RECORDED = ("last", "text", "visual", "encoder")
"""Criteria whose scores the dense pass keeps, before every layer."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out rows, and the run folder.

    Attributes:
        measure: Gives the results of schedules on the rows.
        depth: Decoder layers.
        run: Folder of what the commands wrote.
    """

    measure: Measure
    depth: int
    run: Path

    @classmethod
    def opened(cls, model: Path, data: Path, rows: int | None, run: Path) -> HeldOut:
        """The model on drawn rows of a file, with the results that the run folder holds already."""
        torch.set_num_threads(1)
        loaded = load_model(model, ModelOptions(dtype="bfloat16"))
        samples = load_samples(data, samples=rows)
        criteria = [parse_criterion(name) for name in _RECORDED]
        remembered = Remembered(loaded, samples, run / "held-out.db", criteria)
        return cls(remembered.evaluate_many, loaded.config.get_text_config().num_hidden_layers, run)

    @property
    def withdrawals(self) -> tuple[int, ...]:
        """Layers before which all visual tokens are withdrawn: every second one, and the middle."""
        return tuple(sorted({*range(0, self.depth, 2), self.depth // 2}))

    def read(self, name: str) -> Any:
        """A JSON file of the run."""
        return json.loads((self.run / name).read_text())

    @property
    def book(self) -> Criterion:
        """The codebook that was built."""
        criterion = Schedule.load(self.run / "codebook-schedule.json").stages[0].criterion
        assert criterion is not None, "a schedule that `autoprune codebook` wrote has a criterion"
        return criterion
