"""Models inside a PEFT wrapper: the same tokens leave, whichever of the two is patched."""

from __future__ import annotations

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import llava

import autoprune
from autoprune import presets

peft = pytest.importorskip("peft", reason="adapters need peft")
HIMAP = presets.himap((1, 3), (0.5, 0.25))


@pytest.mark.parametrize("patched", ["wrapper", "inner", "inner, before it was wrapped"])
def test_lora(patched: str) -> None:
    zoo = llava()
    patch = autoprune.apply(zoo.model, HIMAP) if "before" in patched else None
    config = peft.LoraConfig(target_modules=r".*language_model.*(q_proj|v_proj|up_proj)", init_lora_weights=False)
    torch.manual_seed(0)
    wrapper = peft.get_peft_model(zoo.model, config)
    options = {**zoo.inputs, "max_new_tokens": 5, "do_sample": False}
    if patch is None:
        with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]):
            expected = wrapper.generate(**options)
        patch = autoprune.apply(wrapper if patched == "wrapper" else zoo.model, HIMAP)
        got = wrapper.generate(**options)
    else:
        got = wrapper.generate(**options)
        patch.remove()
        with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]):
            expected = wrapper.generate(**options)
    assert torch.equal(got, expected)
    assert patch.report.visual_tokens[:, 0].tolist() == [32, 16, 16, 8, 8, 8]


def test_adapters_are_trained_through_a_pruned_model() -> None:
    zoo = llava()
    wrapper = peft.get_peft_model(zoo.model, peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    labels = zoo.inputs["input_ids"].clone()
    labels[:, :-2] = -100
    grads = []
    for prune in (False, True):
        patch = autoprune.apply(wrapper, HIMAP) if prune else None
        reference = MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"], labels != -100)
        with patch or reference:
            wrapper(**zoo.inputs, labels=labels).loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in wrapper.parameters() if p.grad is not None]))
        wrapper.zero_grad()
    assert grads[0].abs().sum() > 0
    torch.testing.assert_close(grads[1], grads[0], atol=1e-5, rtol=1e-3)
