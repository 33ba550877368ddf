"""What is checked before a worker of the engine starts, by stand-ins for its parts."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest
from support.zoo.llava import llava

from autoprune.engines.vllm import plugin
from autoprune.engines.vllm.serving import OPTION, VARIABLE
from autoprune.engines.vllm.start import checked, guard
from autoprune.errors import ModelError, PatchError

SERVED = "LlavaForConditionalGeneration"
WITHDRAWAL = {"format": "autoprune.schedule", "version": 1, "stages": [{"layer": 2, "keep": {"ratio": 0.0}}]}


@pytest.fixture
def config(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    config = llava().model.config
    config.name_or_path = ""
    return config


class Registry:
    """A registry that finds whatever it is asked for."""

    def inspect_model_cls(self, architectures, model_config):
        return object(), architectures[0]


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
    with pytest.raises(PatchError, match="--enable-prefix-caching"):
        checked(None).verify_and_update_config(engine)


def test_another_version_serves_no_schedules(monkeypatch, caplog) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__="0.99.0"))
    monkeypatch.delenv(VARIABLE, raising=False)
    plugin.register.cache_clear()
    with caplog.at_level(logging.WARNING, "autoprune"):
        plugin.register()
    assert "pip install 'vllm==0.32.*'" in caplog.text
    plugin.register.cache_clear()
    monkeypatch.setenv(VARIABLE, "schedule.json")
    with pytest.raises(ModelError, match=r"pip install 'vllm==0\.32\.\*'"):
        plugin.register()
