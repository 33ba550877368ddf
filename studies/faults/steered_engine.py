"""The real engine, with faults: a backend that files in the folder of the study steer (see `support.steering`).

Files of its own are taken once, by whichever worker comes first: ``nan`` (figures of a candidate become NaN) and
``raises`` (a row raises). The driver alone reads the inputs, so faults of the driver begin there: ``dies_writing`` (it
is killed when half of ``front.json`` is written), ``loses`` (Ray says that a result is gone: it has no call any more
that takes one out of its store, so its exception stands for that).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ray
from ray.exceptions import ObjectLostError
from support.steering import Steering

from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.sharing import Sharing
from autoprune.schedule import Schedule
from autoprune.search import outputs
from autoprune.search.spec import StudySpec
from autoprune.search.workers import engine
from autoprune.search.workers.protocol import Engine, EngineFacts, Inputs, Split, Times
from autoprune.search.workers.ray import RayExecutor


def read_inputs(spec: StudySpec) -> Inputs:
    steering = Steering(Path(spec.output).parent)
    if (steering.folder / "dies_writing").exists():
        _die_writing()
    if (steering.folder / "loses").exists():
        _lose_results(steering)
    return engine.read_inputs(spec)


def open_engine(spec: StudySpec) -> Engine:
    steering = Steering(Path(spec.output).parent)
    steering.load()
    return SteeredEngine(engine.open_engine(spec), steering)


class SteeredEngine:
    def __init__(self, real: Engine, steering: Steering) -> None:
        self._real, self._steering = real, steering

    @property
    def sharing(self) -> Sharing:
        return self._real.sharing

    def facts(self) -> EngineFacts:
        return self._real.facts()

    def peak_bytes(self) -> int:
        return self._real.peak_bytes()

    def evaluate(self, split: Split, schedules: Sequence[Schedule], rows: Sequence[int]) -> list[list[SampleResult]]:
        self._steering.work(schedules, f"{split} {','.join(map(str, rows))}")
        if self._once("raises"):
            raise RuntimeError(f"row {rows[0]} cannot be computed")
        found = self._real.evaluate(split, schedules, rows)
        if self._once("nan"):
            found = [[replace(r, correct=float("nan"), kl=float("nan")) for r in results] for results in found]
        return found

    def latency(self, schedules: Sequence[Schedule]) -> list[Times]:
        """Times of the first schedule stand for all: nothing here is about them."""
        self._steering.work(schedules, "latency")
        return self._real.latency(schedules[:1]) * len(schedules)

    def _once(self, name: str) -> bool:
        try:
            (self._steering.folder / name).unlink()
        except FileNotFoundError:
            return False
        return True


def _die_writing() -> None:
    def write_half(path: Path, content: str) -> None:
        if path.name == "front.json":
            path.with_name(f".front.json.{os.getpid()}.partial").write_text(content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write_whole(path, content)

    write_whole, outputs.write_whole = outputs.write_whole, write_half  # type: ignore[assignment]


def _lose_results(steering: Steering) -> None:
    def finish(executor: RayExecutor, worker: Any) -> Any:
        if not worker.task.rows or not steering.words("loses"):
            return real(executor, worker)
        (steering.folder / "loses").unlink()
        with patch.object(ray, "get", side_effect=ObjectLostError(worker.running.hex(), None, "")):
            return real(executor, worker)

    real = RayExecutor._finish
    RayExecutor._finish = finish  # type: ignore[method-assign]
