"""Caches that move or mix their layers: offloaded ones, and those with windows beside full layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import Zoo, gemma3, llava
from torch import Tensor
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer, StaticLayer

import autoprune
from autoprune import presets

HIMAP = presets.himap((1, 3), (0.5, 0.25))
LENGTH = 90


class _Stream:
    def wait_stream(self, other: object) -> None: ...

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offloaded caches order their copies by streams of a GPU; here, where there is none, everything is in order."""
    monkeypatch.setattr(torch, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: _Stream())


def offloaded(config) -> Cache:
    return DynamicCache(config=config, offloading=True)


def offloaded_static(config) -> Cache:
    return StaticCache(config=config, max_cache_len=LENGTH, offloading=True)


def without_config(config) -> Cache:
    """Full layers for a model with windows, each made when it is first written."""
    return DynamicCache()


def mixed(config) -> Cache:
    """Growing and preallocated layers in turn, windows kept."""
    grown = DynamicCache(config=config).layers
    return Cache(
        layers=[
            StaticLayer(LENGTH) if i % 2 and not isinstance(layer, DynamicSlidingWindowLayer) else layer
            for i, layer in enumerate(grown)
        ]
    )


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("make", [offloaded, offloaded_static, without_config, mixed])
@pytest.mark.parametrize("family", [llava, gemma3])
def test_decoding_equals_the_masked_reference(family: Callable[..., Zoo], make: Callable[..., Cache]) -> None:
    zoo = family()
    text = zoo.model.config.text_config

    def decode(cache: Cache) -> Tensor:
        mask, call, found = zoo.inputs["attention_mask"], dict(zoo.inputs), []
        with torch.no_grad():
            for token in (40, 41, 42, 43):
                out = zoo.model(**call, past_key_values=cache, use_cache=True)
                found.append(out.logits[:, -1])
                mask = torch.cat([mask, mask.new_ones(2, 1)], 1)
                call = {"input_ids": torch.tensor([[token]] * 2), "attention_mask": mask}
                call["position_ids"] = mask.cumsum(1)[:, -1:] - 1
        return torch.stack(found, 1)

    with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]):
        expected = decode(DynamicCache(config=text))
    cache = make(text)
    with autoprune.apply(zoo.model, HIMAP) as patch:
        got = decode(cache)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert patch.report.active


@pytest.mark.usefixtures("streams")
@pytest.mark.parametrize("name", ["offloaded", "offloaded_static"])
def test_offloaded_through_generate(name: str) -> None:
    zoo = llava()
    options = {**zoo.inputs, "max_new_tokens": 5, "do_sample": False}
    with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]):
        expected = zoo.model.generate(**options)
    with autoprune.apply(zoo.model, HIMAP):
        assert torch.equal(zoo.model.generate(**options, cache_implementation=name), expected)


def test_offloading_moves_pruned_layers_too() -> None:
    """A layer that was pruned still knows what to move: its entries, on the device it came from."""
    zoo = llava([[0]])
    cache = DynamicCache(config=zoo.model.config)
    with autoprune.apply(zoo.model, HIMAP), torch.no_grad():
        zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
    layer = cache.layers[4]
    assert isinstance(layer, DynamicLayer)
    keys = layer.keys.clone()
    layer.device = torch.device("meta")
    layer.prefetch()
    assert layer.keys.device.type == layer.values.device.type == "meta"
    layer.keys, layer.values = keys, keys
    layer.offload()
    assert layer.keys.device.type == "cpu"
