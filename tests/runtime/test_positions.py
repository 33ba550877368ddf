"""Compact positions: pruning before layer 0 is then the same as never having had the dropped tokens."""

from __future__ import annotations

import pytest
import torch
from support.versions import needs
from support.zoo import gemma3, llama, llava, qwen2_5_vl
from support.zoo.molmo2 import molmo2
from transformers import DynamicCache

import autoprune
from autoprune import Schedule
from autoprune.errors import PatchError


def compact(*stages: dict) -> Schedule:
    return Schedule(stages=stages, positions="compact")


UNIFORM = compact({"layer": 0, "keep": {"ratio": 0.4}, "criterion": {"name": "uniform"}})
TWO = compact(
    {"layer": 0, "keep": {"ratio": 0.6}, "criterion": {"name": "uniform"}}, {"layer": 0 + 1, "keep": {"ratio": 0.0}}
)


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embeddings [2, 24, 64], attention mask with left padding, visual mask with unequal numbers of tokens."""
    embeds = torch.randn(2, 24, 64, generator=torch.Generator().manual_seed(4))
    mask, visual = torch.ones(2, 24, dtype=torch.long), torch.zeros(2, 24, dtype=torch.bool)
    mask[1, :5] = 0
    visual[0, 3:15] = True
    visual[1, 8:15] = True
    return embeds, mask, visual


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_equals_a_sequence_that_never_had_the_dropped_tokens(attention: str) -> None:
    model = llama()
    model.set_attn_implementation(attention)
    embeds, mask, visual = batch()
    tokens = torch.tensor([[11], [12]]), torch.tensor([[13], [14]])
    cache, steps = DynamicCache(config=model.config), []
    with autoprune.apply(model, UNIFORM, visual) as patch, torch.no_grad():
        steps.append(model(inputs_embeds=embeds, attention_mask=mask, past_key_values=cache, use_cache=True).logits)
        kept = patch.report.kept[0]
        for token in tokens:
            mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], 1)
            steps.append(model(input_ids=token, attention_mask=mask, past_key_values=cache, use_cache=True).logits)
    for b, padding in ((0, 0), (1, 5)):
        short = embeds[b : b + 1, padding:][:, kept[b]]
        own = DynamicCache(config=model.config)
        with torch.no_grad():
            expected = [model(inputs_embeds=short, past_key_values=own, use_cache=True).logits[:, -1]]
            expected += [
                model(input_ids=t[b : b + 1], past_key_values=own, use_cache=True).logits[:, -1] for t in tokens
            ]
        torch.testing.assert_close(torch.cat([s[b : b + 1, -1] for s in steps]), torch.cat(expected), atol=1e-4, rtol=0)


def test_generate_decodes_alike_with_and_without_cache() -> None:
    zoo = llava([[0], [1]])  # older releases give beams of a sample with two images one image each
    schedule = compact(
        {"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "attention", "rows": "text"}},
        {"layer": 3, "keep": {"ratio": 0.0}},
    )
    options = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    with autoprune.apply(zoo.model, schedule), torch.no_grad():
        cached = zoo.model.generate(**zoo.inputs, **options)
        fresh = zoo.model.generate(**zoo.inputs, **options, use_cache=False)
        beams = zoo.model.generate(**zoo.inputs, max_new_tokens=4, num_beams=2, do_sample=False)
        beams_fresh = zoo.model.generate(**zoo.inputs, max_new_tokens=4, num_beams=2, do_sample=False, use_cache=False)
    torch.testing.assert_close(torch.stack(cached.logits), torch.stack(fresh.logits), atol=1e-4, rtol=0)
    assert torch.equal(beams, beams_fresh)
    kept = Schedule(stages=schedule.stages)
    with autoprune.apply(zoo.model, kept), torch.no_grad():
        other = zoo.model.generate(**zoo.inputs, **options)
    assert (torch.stack(other.logits) - torch.stack(cached.logits)).abs().max() > 1e-3


def test_a_second_turn_follows_on() -> None:
    model = llama()
    embeds = torch.randn(1, 30, 64, generator=torch.Generator().manual_seed(2))
    visual = torch.zeros(1, 30, dtype=torch.bool)
    visual[:, 3:12] = visual[:, 20:26] = True
    cache = DynamicCache(config=model.config)
    masks = iter([visual[:, :16], visual[:, 16:]])
    with autoprune.apply(model, TWO, lambda ids, x: next(masks)) as patch, torch.no_grad():
        model(inputs_embeds=embeds[:, :16], past_key_values=cache, use_cache=True)
        first = {k: v[0] for k, v in patch.report.kept.items()}
        got = model(inputs_embeds=embeds[:, 16:], past_key_values=cache, use_cache=True).logits[:, -1]
        second = {k: v[0] for k, v in patch.report.kept.items()}
    assert [layer.keys.shape[-2] for layer in cache.layers] == [len(first[0]) + len(second[0])] + [15] * 5
    # Layer 0 sees the survivors of stage 1 numbered from 0; layers 1 to 5 see text only, again numbered from 0.
    decoder = model.get_decoder()
    with torch.no_grad():
        hidden = embeds[:, torch.cat([first[0], second[0]])]
        for i, layer in enumerate(decoder.layers):
            if i == 1:
                places = torch.cat([first[0], second[0]])
                hidden = hidden[:, torch.isin(places, torch.cat([first[1], second[1]]))]
            n = hidden.shape[1]
            causal = torch.full((n, n), float("-inf")).triu(1)[None, None]
            rotary = decoder.rotary_emb(hidden, torch.arange(n)[None])
            hidden = layer(hidden, attention_mask=causal, position_embeddings=rotary)
        expected = model.lm_head(decoder.norm(hidden))[:, -1]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_a_cache_with_compact_positions_needs_the_patch() -> None:
    zoo = llava([[0]])
    cache = DynamicCache(config=zoo.model.config)
    with autoprune.apply(zoo.model, UNIFORM), torch.no_grad():
        zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
    with pytest.raises(PatchError, match="no longer patched"):
        zoo.model(input_ids=torch.tensor([[20]]), past_key_values=cache, use_cache=True)


def test_positions_in_several_dimensions_are_refused() -> None:
    zoo = qwen2_5_vl()
    with autoprune.apply(zoo.model, UNIFORM), pytest.raises(PatchError, match="renumbered"):
        zoo.model(**zoo.inputs)


def test_windows_over_the_whole_prompt_are_refused() -> None:
    zoo = gemma3()
    with autoprune.apply(zoo.model, UNIFORM), pytest.raises(PatchError, match="window"):
        zoo.model(**zoo.inputs)


@needs("5.23", "there is no Molmo2")
def test_layers_that_rotate_in_another_way_are_refused() -> None:
    """Molmo2 scales the positions of some layers; only those are what its `rotary_emb` says."""
    zoo = molmo2()
    withdraw = compact({"layer": 2, "keep": {"ratio": 0.0}})
    with autoprune.apply(zoo.model, withdraw), pytest.raises(PatchError, match="renumbered"):
        zoo.model(**zoo.inputs)
