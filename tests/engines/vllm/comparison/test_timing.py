"""Rounds of a benchmark in vLLM: who is asked what, and what is made of the times."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from autoprune.engines.vllm.comparison import sides, timing
from autoprune.engines.vllm.comparison.asked import EngineAnswer, EnginePrompt
from autoprune.engines.vllm.comparison.timing import EngineBenchPlan, benchmark_engine
from autoprune.engines.vllm.comparison.vllm_side import EngineRound
from autoprune.models.options import ModelOptions

DIGITS = Path(__file__).parents[4] / "studies" / "digit_scenes"
SECONDS = {"vLLM, dense": 2.0, "vLLM, pruned": 1.0}


class Asked:
    """Stands for processes with vLLM; notes what they are started with and asked."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.batches: dict[str, list[Sequence[EnginePrompt]]] = {}

    @contextmanager
    def process(self, name, make, settings, environment):
        self.started[name] = settings
        self.batches[name] = []

        def ask(method: str, *given: Any) -> Any:
            if method == "place":
                return {"cpu": "a CPU", "gpu": None, "cores": 2, "threads": 1}
            if method == "answers":
                return [EngineAnswer((1,), ({},), (90, 40))]
            prompts, new_tokens = given
            self.batches[name].append(prompts)
            return EngineRound(SECONDS[name], (0.1, 0.3) * (len(prompts) // 2) or (0.2,), new_tokens * len(prompts))

        yield ask


@pytest.fixture
def asked(monkeypatch):
    made = Asked()
    monkeypatch.setattr(sides, "engine_process", made.process)
    monkeypatch.setattr(timing, "check_vllm", lambda: "0.32.0")
    return made


def bench(**more: Any) -> timing.EngineBenchmark:
    plan = {"schedule": "vtw", "requests": [1, 2], "new_tokens": 5, "repeats": 3, "warmup": 1, **more}
    return benchmark_engine(str(DIGITS / "model"), ModelOptions(), EngineBenchPlan(**plan), {"seed": 7})


def test_both_models_are_asked_about_the_same_new_images_in_every_round(asked):
    bench()
    dense, pruned = asked.batches.values()
    assert dense == pruned
    assert [len(batch) for batch in dense] == [1] * 4 + [2] * 4
    for batches in (dense[:4], dense[4:]):
        images = [prompt.images for batch in batches for prompt in batch]
        assert len(set(images)) == len(images)


def test_the_models_differ_in_the_schedule_alone(asked):
    bench()
    dense, pruned = asked.started["vLLM, dense"], asked.started["vLLM, pruned"]
    assert dense.options == pruned.options
    assert (dense.options["enable_prefix_caching"], dense.options["seed"]) == (False, 7)
    assert (len(dense.schedule.stages), len(pruned.schedule.stages)) == (0, 1)
    assert "load_format" not in dense.options
    bench(random_init=True)
    assert asked.started["vLLM, dense"].options["load_format"] == "dummy"


def test_figures_and_ratios(asked):
    result = bench()
    one, two = result.settings
    assert two.dense.requests_per_s.median == pytest.approx(1.0)
    assert two.pruned.requests_per_s.median == pytest.approx(2.0)
    assert two.pruned.output_tokens_per_s.median == pytest.approx(10.0)
    assert two.pruned.first_token_ms.median == pytest.approx(200.0)
    assert (one.requests_ratio.median, one.first_token_ratio.median) == (2.0, 1.0)
    assert set(result.not_measured) == {"memory", "GPU"}
    assert result.to_dict()["tokens"] == [90, 40]
