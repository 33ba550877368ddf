"""What is checked before a worker of the engine starts, by stand-ins for its parts."""

from __future__ import annotations

import json
import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
from support.zoo.llava import llava

from autoprune.engines.vllm import plugin, start
from autoprune.engines.vllm.serving import OPTION, VARIABLE
from autoprune.engines.vllm.start import check_config, checked, guard
from autoprune.errors import ModelError, PatchError
from autoprune.sources import HubError

SERVED = "LlavaForConditionalGeneration"
WITHDRAWAL = {"format": "autoprune.schedule", "version": 1, "stages": [{"layer": 2, "keep": {"ratio": 0.0}}]}

UNIFORM = {"layer": 0, "keep": {"ratio": 0.5}, "criterion": {"name": "uniform"}}
SHORTER = {"format": "autoprune.schedule", "version": 1, "positions": "compact", "stages": [UNIFORM]}


@pytest.fixture
def config(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    config = llava().model.config
    config.name_or_path = ""
    return config


class Registry:
    """A registry that finds whatever it is asked for; `sees` says whether the models take images."""

    def __init__(self, sees: bool = True) -> None:
        self.sees = sees
        self.registered: dict[str, str] = {}

    def inspect_model_cls(self, architectures, model_config):
        return SimpleNamespace(supports_multimodal=self.sees), architectures[0]

    def register_model(self, architecture, name):
        self.registered[architecture] = name


def installed(monkeypatch, version: str) -> tuple[Registry, dict]:
    """A stand-in for vLLM: its registry, and its hooks by architecture."""
    registry, hooks = Registry(), {}
    engine = ModuleType("vllm")
    engine.__version__, engine.ModelRegistry = version, registry
    config = ModuleType("vllm.model_executor.models.config")
    config.MODELS_CONFIG_MAP = hooks
    monkeypatch.setitem(sys.modules, "vllm", engine)
    monkeypatch.setitem(sys.modules, config.__name__, config)
    for name in ("vllm.model_executor", "vllm.model_executor.models"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    plugin.register.cache_clear()
    return registry, hooks


def test_a_model_without_schedules_is_refused_only_if_one_is_named(config) -> None:
    registry = Registry()
    guard(registry, {SERVED})
    model = SimpleNamespace(hf_config=config)
    for architecture in (SERVED, "AnyOther"):
        assert registry.inspect_model_cls([architecture], model)[1] == architecture
    setattr(config, OPTION, WITHDRAWAL)
    assert registry.inspect_model_cls([SERVED], model)[1] == SERVED
    with pytest.raises(ModelError, match="does not serve any"):
        registry.inspect_model_cls(["AnyOther"], model)


def test_the_engines_own_check_of_a_model_runs_too(config) -> None:
    seen = []

    class Own:
        @staticmethod
        def verify_and_update_config(vllm_config):
            seen.append(vllm_config)

        @staticmethod
        def verify_and_update_model_config(model_config):
            seen.append(model_config)

    images = SimpleNamespace(get_limit_per_prompt=lambda modality: 1)
    model = SimpleNamespace(hf_config=config, multimodal_config=images, architecture=SERVED)
    engine = SimpleNamespace(model_config=model, cache_config=SimpleNamespace(enable_prefix_caching=True))
    checked(Own).verify_and_update_config(engine)
    checked(Own).verify_and_update_model_config(model)
    assert seen == [engine, model]
    checked(None).verify_and_update_config(engine)  # no schedule is named
    setattr(config, OPTION, WITHDRAWAL)
    checked(None).verify_and_update_model_config(model)
    with pytest.raises(PatchError, match="--enable-prefix-caching"):
        checked(None).verify_and_update_config(engine)


def test_another_version_serves_no_schedules(monkeypatch, caplog, config) -> None:
    registry, hooks = installed(monkeypatch, "0.99.0")
    with caplog.at_level(logging.WARNING, "autoprune"):
        plugin.register()
    assert "pip install 'vllm==0.32.*'" in caplog.text
    assert not hooks
    assert not registry.registered
    model = SimpleNamespace(hf_config=config)
    assert registry.inspect_model_cls([SERVED], model)[1] == SERVED
    setattr(config, OPTION, WITHDRAWAL)
    with pytest.raises(ModelError, match=r"pip install 'vllm==0\.32\.\*'"):
        registry.inspect_model_cls([SERVED], model)
    plugin.register.cache_clear()
    monkeypatch.setenv(VARIABLE, "schedule.json")
    with pytest.raises(ModelError, match=r"pip install 'vllm==0\.32\.\*'"):
        plugin.register()


def test_another_version_refuses_a_schedule_beside_the_weights(monkeypatch, tmp_path, config) -> None:
    registry, _ = installed(monkeypatch, "0.31.0")
    plugin.register()
    config.name_or_path = str(tmp_path)
    (tmp_path / "pruning_schedule.json").write_text(json.dumps(WITHDRAWAL))
    with pytest.raises(ModelError, match="pip install"):
        registry.inspect_model_cls([SERVED], SimpleNamespace(hf_config=config))


def test_registering_replaces_classes_and_hooks_of_the_models_that_serve_schedules(monkeypatch, config) -> None:
    registry, hooks = installed(monkeypatch, f"{plugin.SUPPORTED}.1")
    plugin.register()
    plugin.register()
    assert registry.registered == plugin.MODELS
    assert set(hooks) == set(plugin.MODELS)
    setattr(config, OPTION, WITHDRAWAL)
    model = SimpleNamespace(hf_config=config)
    assert registry.inspect_model_cls([SERVED], model)[1] == SERVED
    with pytest.raises(ModelError, match="does not serve any"):
        registry.inspect_model_cls(["AnyOther"], model)


def test_models_that_see_nothing_are_not_looked_up_on_the_hub(monkeypatch, config) -> None:
    registry = Registry(sees=False)
    guard(registry, {SERVED})
    monkeypatch.setattr(start, "named_schedule", lambda config: pytest.fail("looked for a schedule"))
    assert registry.inspect_model_cls(["Text"], SimpleNamespace(hf_config=config))[1] == "Text"


def test_a_model_that_serves_no_schedules_starts_without_the_hub(monkeypatch, caplog, config) -> None:
    def unreachable(config):
        raise HubError("does not answer")

    monkeypatch.setattr(start, "named_schedule", unreachable)
    registry = Registry()
    guard(registry, {SERVED})
    with caplog.at_level(logging.WARNING, "autoprune"):
        assert registry.inspect_model_cls(["Other"], SimpleNamespace(hf_config=config))[1] == "Other"
    assert "does not answer" in caplog.text


def test_a_model_that_drafts_for_another_needs_no_schedule(monkeypatch, config, tmp_path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(WITHDRAWAL))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine.json"))
    registry = Registry()
    guard(registry, {SERVED})
    draft = SimpleNamespace(hf_config=config, runner="draft")
    assert registry.inspect_model_cls(["Draft"], draft)[1] == "Draft"
    checked(None).verify_and_update_model_config(draft)
    assert getattr(config, OPTION, None) is None
    with pytest.raises(ModelError):
        registry.inspect_model_cls(["Draft"], SimpleNamespace(hf_config=config, runner="auto"))


def test_images_of_two_steps_have_room_where_a_stage_sees_whole_prompts(config) -> None:
    images = SimpleNamespace(get_limit_per_prompt=lambda modality: 1)
    for what, expected in ((WITHDRAWAL, 200), (SHORTER, 100), (None, 100)):
        setattr(config, OPTION, what)
        scheduler = SimpleNamespace(max_num_batched_tokens=100, encoder_cache_size=100)
        model = SimpleNamespace(hf_config=config, multimodal_config=images, architecture=SERVED)
        check_config(SimpleNamespace(model_config=model, scheduler_config=scheduler))
        assert scheduler.encoder_cache_size == expected
