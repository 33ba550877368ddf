"""A pass that fails, by whatever, leaves nothing behind: no kernel, no state, no memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
from support.zoo import Zoo, llava
from torch import nn
from transformers import DynamicCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import autoprune
from autoprune import presets
from autoprune.errors import PatchError

HIMAP = presets.himap((1, 3), (0.5, 0.25))
"""Layers 0 and 2 are observed."""


@pytest.fixture(autouse=True)
def registry_is_left_alone() -> Iterator[None]:
    before = {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS}
    yield
    assert {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS} == before


def forward(zoo: Zoo) -> None:
    with torch.no_grad():
        zoo.model(**zoo.inputs)


def generate(zoo: Zoo) -> None:
    zoo.model.generate(**zoo.inputs, max_new_tokens=2)


@pytest.mark.parametrize("call", [forward, generate])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
@pytest.mark.parametrize("place", ["observed attention", "after the stage", "vision tower"])
def test_nothing_is_left_of_a_failed_pass(place: str, error: type[BaseException], call: Callable[[Zoo], None]) -> None:
    """Checked while the patch is still on, and outside of any `with`."""
    zoo = llava()
    layers = zoo.model.get_decoder().layers
    part: nn.Module = {
        "observed attention": layers[2].self_attn.o_proj,
        "after the stage": layers[4].mlp,
        "vision tower": zoo.model.model.multi_modal_projector,
    }[place]
    inputs: list[weakref.ref] = []
    zoo.model.get_decoder().register_forward_pre_hook(
        lambda m, a, k: inputs.append(weakref.ref(k["inputs_embeds"])), with_kwargs=True
    )

    def fail(*_: object) -> None:
        raise error("stop")

    kernels = {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS}
    patch = autoprune.apply(zoo.model, HIMAP)
    handle = part.register_forward_pre_hook(fail)
    with pytest.raises(error, match="stop"):
        call(zoo)
    handle.remove()
    assert {name: ALL_ATTENTION_FUNCTIONS[name] for name in ALL_ATTENTION_FUNCTIONS} == kernels
    gc.collect()
    assert [ref() for ref in inputs] == [None] * len(inputs)
    forward(zoo)
    after = patch.report.tokens
    patch.remove()
    with autoprune.apply(zoo.model, HIMAP) as fresh:
        forward(zoo)
    assert torch.equal(after, fresh.report.tokens)


def test_a_failed_call_says_nothing_to_the_next_call_of_the_decoder() -> None:
    zoo = llava()
    decoder, pixels = zoo.model.get_decoder(), zoo.inputs["pixel_values"]
    embeds = torch.zeros(*zoo.inputs["input_ids"].shape, 64)
    with autoprune.apply(zoo.model, HIMAP, zoo.visual) as patch, torch.no_grad():
        with pytest.raises(ValueError, match=r"[Ii]mage"):
            zoo.model(**{**zoo.inputs, "pixel_values": pixels[:1]})  # fewer images than placeholders
        decoder(inputs_embeds=embeds)
    assert patch.report.tokens[0].tolist() == [embeds.shape[1]] * 2  # no padding: the mask was that of the failed call


@pytest.mark.parametrize("call", [forward, generate])
def test_what_cannot_fire_raises_through_every_door(call: Callable[[Zoo], None]) -> None:
    zoo = llava([[0]])
    with autoprune.apply(zoo.model, HIMAP, torch.zeros_like(zoo.visual)):
        with pytest.raises(PatchError, match="no visual token was found"):
            call(zoo)
        zoo.inputs = {"inputs_embeds": torch.randn(1, 30, 64)}
    with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="nothing tells which positions"):
        call(zoo)


def test_a_stage_past_the_last_layer_is_refused_at_once() -> None:
    with pytest.raises(autoprune.AutopruneError, match="layers 0 to 5"):
        autoprune.apply(llava().model, presets.vtw(6))


def test_a_failed_pass_does_not_spoil_the_cache_of_the_turn_before() -> None:
    zoo = llava([[0]])
    step = {"input_ids": torch.tensor([[40]]), "use_cache": True}
    answers = []
    for interrupt in (False, True):
        cache = DynamicCache(config=zoo.model.config)
        with autoprune.apply(zoo.model, HIMAP), torch.no_grad():
            zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
            if interrupt:
                handle = zoo.model.get_decoder().register_forward_pre_hook(_interrupt)
                with pytest.raises(KeyboardInterrupt):
                    zoo.model(**step, past_key_values=cache)
                handle.remove()
            answers.append(zoo.model(**step, past_key_values=cache).logits)
    assert torch.equal(*answers)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
