"""torch.compile: whatever was compiled, and whenever, the patch acts, and is gone once removed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from support.zoo import llama
from torch import Tensor
from transformers import CompileConfig

import autoprune
from autoprune import presets

VTW = presets.vtw(1)
IDS = torch.arange(10, 30)[None]
MASK = torch.zeros(1, 20, dtype=torch.bool)
MASK[:, 3:12] = True


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def logits(model) -> Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


def compile_whole(model):
    return torch.compile(model, backend="eager")


def compile_forward(model):
    model.forward = torch.compile(model.forward, backend="eager")
    return model


def compile_layers(model):
    for layer in model.get_decoder().layers:
        layer.compile(backend="eager")
    return model


@pytest.mark.parametrize(
    ("when", "compile_"),
    [
        ("before, and run", compile_forward),
        ("before, and run", compile_layers),
        ("after", compile_layers),
        pytest.param("before, and run", compile_whole, marks=pytest.mark.slow),
        pytest.param("after", compile_whole, marks=pytest.mark.slow),
        pytest.param("after", compile_forward, marks=pytest.mark.slow),
    ],
)
def test_compiled_before_or_after_the_patch(when: str, compile_) -> None:
    model = llama(layers=2)
    dense = logits(model)
    with autoprune.apply(model, VTW, MASK):
        pruned = logits(model)
    compiled = model
    if when != "after":
        compiled = compile_(model)
        torch.testing.assert_close(logits(compiled), dense, atol=1e-5, rtol=0)
    with autoprune.apply(model, VTW, MASK) as patch:
        compiled = compile_(model) if when == "after" else compiled
        torch.testing.assert_close(logits(compiled), pruned, atol=1e-5, rtol=0)
    assert patch.report.tokens[:, 0].tolist() == [20, 11]
    torch.testing.assert_close(logits(compiled), dense, atol=1e-5, rtol=0)


@pytest.mark.parametrize("cache", [pytest.param(None, marks=pytest.mark.slow), "static"])
def test_generating_with_a_compiled_forward(cache: str | None) -> None:
    model = llama(layers=2)
    options = {"input_ids": IDS, "max_new_tokens": 4, "do_sample": False, "cache_implementation": cache}
    with autoprune.apply(model, VTW, MASK):
        expected = model.generate(**options)
        compile_layers(model)
        assert torch.equal(model.generate(**options), expected)


def test_transformers_does_not_compile_the_decode_on_its_own() -> None:
    """It does so with a static cache on a GPU, for which hooks leave no whole graph."""
    model = llama(layers=2)
    everywhere = CompileConfig(backend="eager")
    everywhere._compile_all_devices = True
    options = {"input_ids": IDS, "max_new_tokens": 3, "do_sample": False, "cache_implementation": "static"}
    with autoprune.apply(model, VTW, MASK):
        expected = model.generate(**options, disable_compile=True)
        assert torch.equal(model.generate(**options, compile_config=everywhere), expected)
    assert not hasattr(model, "_compiled_call")
