"""What vision tower and projector compute, counted on the inputs: every family of the zoo, against the whole model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support.flops import countable_attention
from support.rows import families
from support.zoo import FAMILIES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autoprune.pricing.counting import vision_flops
from autoprune.runtime.decoder import decoder_layers, find_decoder


def _outside_decoder_and_head(model: nn.Module, inputs: dict[str, Any]) -> int:
    """Torch's own counter over a whole pass, without decoder layers, head and rotary embeddings."""
    counter = FlopCounterMode(display=False)
    with countable_attention(model, "eager"), torch.no_grad(), counter:
        model(**inputs, use_cache=False, logits_to_keep=1)
    counts = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    names = {m: f"{type(model).__name__}.{n}" for n, m in model.named_modules()}
    behind = [names[m] for m in (*decoder_layers(find_decoder(model)), model.get_output_embeddings())]
    rotary = [n for n in counts if "rotary" in n.split(".")[-1] and not any(n.startswith(f"{m}.") for m in behind)]
    return int(counts["Global"] - sum(counts.get(n, 0) for n in (*behind, *rotary)))


@pytest.mark.parametrize("family", families())
def test_equals_the_whole_pass_without_the_decoder(family: str) -> None:
    """As the model would run, in the attention that it was loaded with, and in eager attention."""
    zoo = FAMILIES[family].build()
    model = zoo.model.requires_grad_(False)  # torch's tracker of modules fails on weights that are handed to a module
    expected = _outside_decoder_and_head(model, zoo.inputs)
    assert vision_flops(model, zoo.inputs) == expected > 0
    with countable_attention(model, "eager"):
        assert vision_flops(model, zoo.inputs) == expected
    assert not decoder_layers(find_decoder(model))[0]._forward_pre_hooks  # the next pass goes through to its end


def test_a_text_only_prompt_has_none() -> None:
    zoo = FAMILIES["llava"].build()
    assert vision_flops(zoo.model, {"input_ids": torch.arange(10, 20)[None]}) == 0


def test_kernels_of_other_packages_are_left_for_one_that_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    zoo = FAMILIES["llava"].build()
    expected = vision_flops(zoo.model, zoo.inputs)
    configs = [m.config for m in zoo.model.modules() if hasattr(m, "config")]
    for config in configs:
        monkeypatch.setattr(config, "_attn_implementation_internal", "flash_attention_2")
    assert vision_flops(zoo.model, zoo.inputs) == expected
    assert {config._attn_implementation for config in configs} == {"flash_attention_2"}
