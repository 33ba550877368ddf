"""Structures in which pruning cannot be exact are refused in one error; a config on the safe side of each is exact."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.reference import MaskedReference
from support.schedules import attention, schedule
from support.zoo.gemma3n import gemma3n
from support.zoo.gemma4 import gemma4
from support.zoo.llama4 import llama4
from support.zoo.mllama import mllama
from support.zoo.qwen3_vl_moe import qwen3_vl_moe

import autoprune
from autoprune import presets
from autoprune.errors import ModelError, PatchError

STAGES = schedule((0, {"ratio": 0.6}, attention("last", at="current")), (3, {"ratio": 0.3}, attention("text")))


class TestModels:
    def test_images_seen_by_cross_attention(self) -> None:
        with pytest.raises(ModelError, match="cross-attention"):
            autoprune.apply(mllama(), presets.vtw(2))

    @pytest.mark.parametrize(
        ("model", "why"),
        [
            pytest.param(lambda: gemma4(shared=2).model, "KV sharing", id="gemma4"),
            pytest.param(lambda: gemma3n(shared=2), "KV sharing", id="gemma3n"),
            pytest.param(lambda: gemma3n(shared=0), "alternating updates", id="gemma3n without sharing"),
        ],
    )
    def test_layers_that_share_what_pruning_cuts(self, model: Any, why: str) -> None:
        with pytest.raises(ModelError, match=why):
            autoprune.apply(model(), presets.vtw(2), torch.ones(1, 4, dtype=torch.bool))


class TestAttentionThatCountsRows:
    """Llama 4 sharpens the attention of layers without positions, by floor((place + 1) / floor_scale)."""

    def test_from_the_first_step_on_it_is_refused(self) -> None:
        length = llama4().inputs["input_ids"].shape[1]
        zoo = llama4(floor_scale=length)
        with autoprune.apply(zoo.model, STAGES), pytest.raises(PatchError, match=f"below {length} tokens"):
            zoo.model(**zoo.inputs)

    @pytest.mark.parametrize("kernel", ["eager", "sdpa"])
    def test_up_to_it_and_in_answers_that_go_beyond_it_is_exact(self, kernel: str) -> None:
        zoo = llama4(floor_scale=llama4().inputs["input_ids"].shape[1] + 1)
        options = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
        with MaskedReference(zoo.model, STAGES, zoo.visual, zoo.inputs["attention_mask"]):
            expected = zoo.model.generate(**zoo.inputs, **options)
        zoo.model.set_attn_implementation(kernel)
        with autoprune.apply(zoo.model, STAGES):
            got = zoo.model.generate(**zoo.inputs, **options)
        torch.testing.assert_close(torch.stack(got.logits), torch.stack(expected.logits), atol=1e-4, rtol=0)
        unscaled = llama4().model.generate(**zoo.inputs, **options)
        assert not torch.equal(unscaled.logits[-1], got.logits[-1])

    def test_without_such_layers_any_length_is_taken(self) -> None:
        zoo = llama4(floor_scale=8)
        zoo.model.get_decoder().config.no_rope_layers = [1] * 6
        with autoprune.apply(zoo.model, STAGES) as patch:
            zoo.model(**zoo.inputs)
        assert patch.report.active


class TestRouterLogits:
    """An auxiliary loss would count the survivors of a pruned layer, and take them for all tokens."""

    def test_asked_for_in_a_call(self) -> None:
        zoo = qwen3_vl_moe()
        with autoprune.apply(zoo.model, STAGES), pytest.raises(PatchError, match="output_router_logits"):
            zoo.model(**zoo.inputs, labels=zoo.inputs["input_ids"], output_router_logits=True)

    def test_asked_for_in_the_config(self) -> None:
        zoo = qwen3_vl_moe()
        zoo.model.config.text_config.output_router_logits = True
        with autoprune.apply(zoo.model, STAGES):
            with pytest.raises(PatchError, match="output_router_logits"):
                zoo.model(**zoo.inputs)
            zoo.model(**zoo.inputs, output_router_logits=False)
