"""Verdicts of single rows, packed: what intervals of a choice among points need, and averages do not hold.

Row i is bit i % 8 of byte i // 8 of the hexadecimal text; rows stand in the order of their data file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, model_validator

from autoprune.evaluate.results import SampleResult


class RowVerdicts(BaseModel):
    """Right or wrong on every row of a data set, of the dense model and of a number of schedules.

    Attributes:
        groups: Number of the cluster of each row.
        tasks: Task of each row; None where it names none.
        dense: Packed verdicts of the dense model.
        points: Packed verdicts by schedule key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    groups: tuple[int, ...]
    tasks: tuple[str | None, ...]
    dense: str
    points: dict[str, str]

    @model_validator(mode="after")
    def _checked(self) -> Self:
        rows = len(self.groups)
        if len(self.tasks) != rows:
            raise ValueError(f"{len(self.tasks)} tasks for {rows} rows")
        for name, packed in {"dense": self.dense, **self.points}.items():
            if len(bytes.fromhex(packed)) != -(-rows // 8):
                raise ValueError(f"the verdicts of {name} do not fit {rows} rows")
        return self

    def losses(self, keys: Sequence[str]) -> NDArray[np.float64]:
        """Dense minus pruned by row and schedule, [rows, schedules]: 1 = lost, -1 = gained.

        Raises:
            KeyError: the verdicts of a schedule are not here.
        """
        dense, rows = unpack(self.dense, len(self.groups)), len(self.groups)
        pruned = [unpack(self.points[key], rows) for key in keys]
        return (dense[:, None] - np.stack(pruned, axis=1)) if keys else np.zeros((rows, 0))

    @classmethod
    def of(cls, dense: Sequence[SampleResult], pruned: Mapping[str, Sequence[SampleResult]]) -> Self | None:
        """The verdicts of whole results; None where a metric gives more than right and wrong.

        Args:
            dense: Results of the dense model on all rows.
            pruned: Results on the same rows, by schedule key.
        """
        by_row = sorted(dense, key=lambda r: r.index)
        columns = {key: [r.correct for r in sorted(own, key=lambda r: r.index)] for key, own in pruned.items()}
        reference = [r.correct for r in by_row]
        if any(value not in (0.0, 1.0) for column in (reference, *columns.values()) for value in column):
            return None
        numbers = {group: number for number, group in enumerate(dict.fromkeys(r.group for r in by_row))}
        return cls(
            groups=tuple(numbers[r.group] for r in by_row),
            tasks=tuple(r.task for r in by_row),
            dense=pack(reference),
            points={key: pack(column) for key, column in columns.items()},
        )


def pack(verdicts: ArrayLike) -> str:
    """Verdicts 0 and 1 as hexadecimal text."""
    return np.packbits(np.asarray(verdicts, dtype=bool), bitorder="little").tobytes().hex()


def unpack(packed: str, rows: int) -> NDArray[np.float64]:
    """Verdicts [rows] from hexadecimal text."""
    held = np.frombuffer(bytes.fromhex(packed), dtype=np.uint8)
    return np.unpackbits(held, count=rows, bitorder="little").astype(float)
