"""What a candidate is to blame for, and what nobody is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from support.studies import BACKEND, tiny_spec

from autoprune import presets
from autoprune.errors import EvaluationError
from autoprune.evaluate.sharing import Sharing
from autoprune.search.workers.local import LocalExecutor, open_engine, run_task
from autoprune.search.workers.protocol import EngineFacts, Split, Task

TASK = Task(1, "evaluate", (presets.vtw(3),), rows=(0, 1, 2, 3))


class RaisingEngine:
    """An engine whose every evaluation raises."""

    sharing = Sharing()

    def __init__(self, error: Exception) -> None:
        self.error = error

    def facts(self) -> EngineFacts:
        raise NotImplementedError

    def evaluate(self, split: Split, schedules: Sequence[Any], rows: Sequence[int]) -> Any:
        raise self.error

    def latency(self, schedules: Sequence[Any]) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EvaluationError("non-finite logits"), "non-finite logits"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"), "out of memory: CUDA out of memory."),
        (MemoryError(), "out of memory: MemoryError"),
    ],
)
def test_a_candidate_is_to_blame_for_errors_of_the_evaluation_and_for_its_memory(error: Exception, reason: str) -> None:
    result = run_task(RaisingEngine(error), TASK, "worker-1")
    assert (result.failure, result.value, result.bug, result.lost) == (reason, None, None, None)
    assert (result.task, result.worker) == (TASK, "worker-1")


@pytest.mark.parametrize("figure", ["correct", "agreement", "kl"])
def test_figures_that_are_not_finite_are_a_failure_and_no_value(tmp_path: Any, figure: str) -> None:
    class SpoiltEngine(RaisingEngine):
        def evaluate(self, split: Split, schedules: Sequence[Any], rows: Sequence[int]) -> Any:
            found = real.evaluate(split, schedules, rows)
            return [[replace(r, **{figure: math.nan}) if r.index == 2 else r for r in results] for results in found]

    real = open_engine(BACKEND, tiny_spec(tmp_path))
    result = run_task(SpoiltEngine(AssertionError()), TASK, "worker-1")
    assert (result.value, result.bug, result.lost) == (None, None, None)
    assert result.failure is not None
    assert result.failure.startswith("non-finite figures in 1 of 4 rows, first in row 2")


def test_anything_else_is_a_bug(tmp_path: Any) -> None:
    with pytest.raises(TypeError):
        run_task(RaisingEngine(TypeError("a bug")), TASK, "worker-1")
    executor = LocalExecutor(tiny_spec(tmp_path), BACKEND)
    executor.start()
    (tmp_path / "bug").write_text(presets.vtw(3).key)
    executor.submit(TASK)
    assert executor.free() == 0
    (result,) = executor.wait(0)
    assert isinstance(result.bug, TypeError)
    assert (executor.free(), executor.wait(0)) == (1, [])


def test_the_model_gets_as_many_threads_as_a_worker_has(tmp_path: Any) -> None:
    before = torch.get_num_threads()
    try:
        LocalExecutor(tiny_spec(tmp_path, workers={"count": 0, "cpus": 3}), BACKEND).start()
        assert torch.get_num_threads() == before, "in the driver, threads are its caller's business"
        LocalExecutor(tiny_spec(tmp_path, workers={"count": 1, "cpus": 3}), BACKEND).start()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
