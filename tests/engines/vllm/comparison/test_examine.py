"""A comparison from end to end, with processes that only pretend."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autoprune.engines.vllm.comparison import examine, sides
from autoprune.engines.vllm.comparison.agreement import ComparedRuns, planned_lengths
from autoprune.engines.vllm.comparison.asked import EngineAnswer
from autoprune.engines.vllm.comparison.examine import engine_case, examine_engine
from autoprune.models.options import ModelOptions
from autoprune.schedule import Schedule

DIGITS = Path(__file__).parents[4] / "studies" / "digit_scenes"
SCHEDULE = Schedule.load(DIGITS / "schedule.json")
DENSE = EngineAnswer((5,), ({5: -0.1, 7: -2.0},), (154,) * 12, 144)
PRUNED = EngineAnswer((5,), ({5: -0.4, 7: -1.0},), planned_lengths(SCHEDULE, DENSE), 144)


@pytest.fixture
def started(monkeypatch):
    made: list[tuple[str, Any]] = []

    @contextmanager
    def process(name, make, *given, environment):
        made.append((name, given))

        def ask(method: str, *arguments: Any) -> Any:
            if method == "measured_in":
                return {"dtype": "float32", "device": "cpu"}
            if method == "rounding":
                return [2e-4] * len(arguments[1])
            rows = arguments[-2]
            schedule = arguments[0] if name == "transformers" else given[0].schedule
            return [PRUNED if schedule.stages else replace(DENSE, n_visual=144)] * len(rows)

        yield ask

    monkeypatch.setattr(sides, "engine_process", process)
    monkeypatch.setattr(examine, "check_vllm", lambda: "0.32.0")
    return made


def test_each_model_runs_in_a_process_of_its_own_one_after_the_other(started):
    case = engine_case(str(DIGITS / "model"), ModelOptions(), SCHEDULE, [], {"seed": 4})
    said: list[str] = []
    report = examine_engine(case, said.append)
    assert [name for name, _ in started] == ["transformers", "vLLM, dense", "vLLM, pruned"]
    dense, pruned = started[1][1][0], started[2][1][0]
    assert dense.options == pruned.options
    assert (dense.options["dtype"], dense.options["seed"], dense.options["enforce_eager"]) == ("float32", 4, True)
    assert pruned.schedule == SCHEDULE
    assert report.passed
    assert report.conclusive
    assert report.serving == "layers"
    assert report.tokens == list(PRUNED.lengths)
    assert "vLLM, pruned: row 1 of 4" in said
    assert json.loads(json.dumps(report.to_dict()))["passed"]


def test_the_few_rows_that_are_far_apart_are_asked_what_rounding_does_to_them(started):
    case = engine_case(str(DIGITS / "model"), ModelOptions(), SCHEDULE, [], {})
    far = replace(PRUNED, logprobs=({5: -0.4003, 7: -1.0},))
    dense = [replace(DENSE, n_visual=144)] * 4
    runs = ComparedRuns(SCHEDULE, (dense, dense), ([PRUNED] * 4, [PRUNED, far, PRUNED, PRUNED]))
    assert examine.with_rounding(runs, case).rounding == {1: 2e-4}
    assert [name for name, _ in started] == ["transformers"]
    many = replace(runs, pruned=(runs.pruned[0], [far] * 4))
    assert examine.with_rounding(many, case).rounding == {}
    none = replace(runs, pruned=(runs.pruned[0],) * 2)
    assert examine.with_rounding(none, case).rounding == {}
    assert len(started) == 1
