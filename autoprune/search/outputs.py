"""The files of a study: ``front.json``, ``front.csv``, ``study.yaml``; each is written whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autoprune.evaluate.objectives import ACCURACY, FIGURES
from autoprune.evaluate.results import Summary
from autoprune.schedule import Stage
from autoprune.schedule.files import write_whole
from autoprune.search.front import Control, FrontFile, Point
from autoprune.search.spec import StudySpec

_COLUMNS = (*(row.figure for row in FIGURES), "samples", "drop", "drop_se")
_TIMES = ("prefill_ms", "prefill_dense_ms", "end_to_end_ms", "end_to_end_dense_ms")
_SPREAD = ("p10", "p90")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_ENDS = (f"{ACCURACY.figure}_low", f"{ACCURACY.figure}_high")


def write_outputs(front: FrontFile, folder: Path, spec: StudySpec) -> None:
    """Writes the front and the study as run."""
    write_whole(folder / "front.json", front.model_dump_json(indent=1) + "\n")
    write_whole(folder / "front.csv", _table(front))
    write_whole(folder / "study.yaml", spec.to_yaml())


def _table(front: FrontFile) -> str:
    lines = io.StringIO()
    writer = csv.DictWriter(lines, _columns(), lineterminator="\n")
    writer.writeheader()
    for kind, point in _all(front):
        row = {"kind": kind, "trial": point.trial, "name": point.name, **_row(point)}
        writer.writerow({column: _inert(value) for column, value in row.items()})
    return lines.getvalue()


def _inert(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value


def _all(front: FrontFile) -> Iterator[tuple[str, Point]]:
    yield "dense", front.dense
    yield from (("point", p) for p in front.points)
    yield from (("baseline", p) for p in front.baselines)
    yield from (("control", p) for p in front.controls)


def _columns() -> list[str]:
    figures, notes = [*_COLUMNS, *_ENDS], ["measured_on", "left_out", *(f"flops_{q}" for q in _SPREAD)]
    return ["kind", "trial", "name", "of", "stages", *figures, *(f"validation_{f}" for f in figures), *notes, *_TIMES]


def _row(point: Point) -> dict[str, Any]:
    row: dict[str, Any] = {"of": point.of, "measured_on": point.measured_on} if isinstance(point, Control) else {}
    row["stages"] = " > ".join(_stage(s) for s in point.schedule.stages)
    row |= _figures(point, "")
    row["left_out"] = point.left_out
    row |= {f"flops_{q}": getattr(point.spread, q) for q in _SPREAD} if point.spread else {}
    if point.validation:
        row |= _figures(point.validation, "validation_")
    return row | ({name: getattr(point.latency, name) for name in _TIMES} if point.latency else {})


def _figures(measured: Summary, prefix: str) -> dict[str, Any]:
    figures = {name: getattr(measured, name) for name in _COLUMNS}
    return {f"{prefix}{k}": v for k, v in (figures | dict(zip(_ENDS, measured.accuracy_ci, strict=True))).items()}


def _stage(stage: Stage) -> str:
    name = stage.criterion.family if stage.criterion else ""
    return f"layer {stage.layer} {stage.keep.kind} {stage.keep.value:g} {name}".strip()
