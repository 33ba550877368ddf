"""The price of a pruned run against the operation counter and the cache of the patched model: to the FLOP and byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support.flops import cache_bytes, count_flops, countable_attention
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, LlavaConfig, LlavaForConditionalGeneration

from autoprune import presets
from autoprune.errors import DataError, ModelError, ScheduleError
from autoprune.pricing.architecture import Architecture
from autoprune.pricing.cost import Cost, cost
from autoprune.runtime import apply
from autoprune.schedule import Schedule

BEFORE, VISUAL, AFTER, IMAGE_ID = 3, 16, 7, 5
TEXT = BEFORE + AFTER
LENGTH = TEXT + VISUAL
LAYERS = 6


def _llama_config(**options: Any) -> LlamaConfig:
    sizes = {"hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
    return LlamaConfig(**{**sizes, "num_key_value_heads": 4, "vocab_size": 99, **options})


def _visual_mask() -> torch.Tensor:
    mask = torch.zeros(1, LENGTH, dtype=torch.bool)
    mask[:, BEFORE : BEFORE + VISUAL] = True
    return mask


def _text_only(**options: Any) -> tuple[nn.Module, dict[str, Any], torch.Tensor | None]:
    torch.manual_seed(0)
    model = LlamaForCausalLM(_llama_config(**options)).eval()
    return model, {"inputs_embeds": torch.randn(1, LENGTH, 32)}, _visual_mask()


def _llava() -> tuple[nn.Module, dict[str, Any], torch.Tensor | None]:
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=4
    )
    text = _llama_config(num_key_value_heads=2)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE_ID)
    model = LlavaForConditionalGeneration(config).eval()
    ids = torch.arange(10, 10 + LENGTH)[None]
    ids[_visual_mask()] = IMAGE_ID
    return model, {"input_ids": ids, "pixel_values": torch.randn(1, 3, 16, 16)}, None


MODELS: dict[str, Callable[[], tuple[nn.Module, dict[str, Any], torch.Tensor | None]]] = {
    "llama": _text_only,
    "llama, grouped heads": lambda: _text_only(num_key_value_heads=1),
    "llama, wide heads": lambda: _text_only(head_dim=16, num_key_value_heads=2),
    "llava": _llava,
}


def _attention(layer: int, keep: float, rows: str, **options: str) -> dict[str, Any]:
    return {"layer": layer, "keep": {"ratio": keep}, "criterion": {"name": "attention", "rows": rows, **options}}


def _stages(*stages: dict[str, Any]) -> Schedule:
    return Schedule.model_validate({"stages": list(stages)})


SCHEDULES = {
    "dense": presets.dense(),
    "withdraw": presets.vtw(2),
    "withdraw before the decoder": presets.vtw(0),
    "last row": presets.fastv(1, 0.5),
    "text then visual rows": presets.himap((1, 3), (0.5, 0.125)),
    "current layer, three stages": presets.pyramiddrop((2, 3, 5), (0.5, 0.25, 0.125)),
    "current layer, before the decoder": _stages(_attention(0, 0.5, "text", at="current")),
    "all rows, then withdraw": _stages(_attention(2, 0.3, "all"), {"layer": 4, "keep": {"ratio": 0.0}}),
    "keeps everything, without scores": _stages({"layer": 2, "keep": {"ratio": 1.0}}),
    "random": presets.random(2, 0.4, 1),
    "uniform": presets.uniform(2, 0.4),
    "diversity": _stages({"layer": 2, "keep": {"count": 5}, "criterion": {"name": "diversity"}}),
    "combined rows": _stages(_attention(1, 0.6, "text", combine="visual"), _attention(4, 0.3, "last", combine="all")),
    "merged": _stages(
        {"layer": 0, "keep": {"ratio": 0.6}, "criterion": {"name": "uniform"}, "merge": "mean"},
        {**_attention(3, 0.25, "text"), "merge": "mean"},
    ),
}


def _priced(model: nn.Module, schedule: Schedule, new_tokens: int = 0, **options: Any) -> Cost:
    return cost(model.config, schedule, VISUAL, TEXT, new_tokens, text_before=BEFORE, dtype_bytes=4, **options)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_patched_prefill(build: Callable[[], Any], schedule: Schedule, implementation: str) -> None:
    model, inputs, visual_mask = build()
    out: list[Any] = []
    with countable_attention(model, implementation), apply(model, schedule, visual_mask):
        counted = count_flops(lambda: out.append(model(**inputs, use_cache=True, logits_to_keep=1)))
    priced = _priced(model, schedule)
    assert counted == priced.flops
    assert cache_bytes(out[0].past_key_values) == priced.kv_bytes


@pytest.mark.parametrize("name", ["text then visual rows", "current layer, three stages", "diversity"])
def test_a_batch_costs_the_sum_of_its_samples(name: str) -> None:
    model, inputs, visual_mask = _text_only()
    assert visual_mask is not None
    embeds = torch.cat([inputs["inputs_embeds"], torch.randn(2, LENGTH, 32)])
    with countable_attention(model, "sdpa"), apply(model, SCHEDULES[name], visual_mask.expand(3, -1)):
        counted = count_flops(lambda: model(inputs_embeds=embeds, logits_to_keep=1))
    assert counted == 3 * _priced(model, SCHEDULES[name]).flops


@pytest.mark.parametrize("name", ["last row", "text then visual rows", "current layer, three stages", "diversity"])
def test_scoring_alone(name: str) -> None:
    """The same counts chosen at random cost the same but for the scores."""
    model, inputs, visual_mask = _text_only()
    scored = SCHEDULES[name]
    chosen = [{"layer": s.layer, "keep": s.keep, "criterion": {"name": "random"}} for s in scored.stages]
    counts = []
    for schedule in (scored, _stages(*chosen)):
        with countable_attention(model, "eager"), apply(model, schedule, visual_mask):
            counts.append(count_flops(lambda: model(**inputs, logits_to_keep=1)))
    assert counts[0] - counts[1] == _priced(model, scored).parts["scoring"] > 0


def test_a_codebook(tmp_path: Path) -> None:
    model, inputs, visual_mask = _text_only()
    path = tmp_path / "book.safetensors"
    save_file({"prototypes": torch.randn(9, 32)}, path)
    criterion = {"name": "codebook", "path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    wanted = {"layer": 0, "keep": {"ratio": 0.5}, "criterion": {**criterion, "prototypes": 9}}
    with countable_attention(model, "sdpa"), apply(model, _stages(wanted), visual_mask):
        counted = count_flops(lambda: model(**inputs, logits_to_keep=1))
    assert counted == _priced(model, _stages(wanted)).flops
    with pytest.raises(ScheduleError, match="prototypes"):
        _priced(model, _stages({**wanted, "criterion": criterion}))


def test_raters_cost_the_rows_of_every_word() -> None:
    model, inputs, visual_mask = _text_only()
    wanted = _stages(_attention(1, 0.5, "raters"), _attention(3, 0.25, "raters"))
    with countable_attention(model, "sdpa"), apply(model, wanted, visual_mask):
        counted = count_flops(lambda: model(**inputs, logits_to_keep=1))
    every_word = _priced(model, _stages(_attention(1, 0.5, "text"), _attention(3, 0.25, "text"))).flops
    matching = 2 * VISUAL * (TEXT - BEFORE) * 32  # once for both stages
    assert counted == _priced(model, wanted).flops == every_word + matching


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_counter_sees_attention(implementation: str) -> None:
    """Guards the tests above: they would pass without attention if neither the counter nor the price had any."""
    model, inputs, _ = _text_only()
    with countable_attention(model, implementation):
        counted = count_flops(lambda: model(**inputs, logits_to_keep=1))
    weights = sum(p.numel() for n, p in model.model.layers.named_parameters() if "norm" not in n)
    products = 2 * LENGTH * weights + 2 * model.lm_head.weight.numel()
    two_products_per_head = LAYERS * 2 * (2 * LENGTH * LENGTH * 32)
    assert counted - products == two_products_per_head
    assert _priced(model, presets.dense()).parts["attention"] == two_products_per_head


@pytest.mark.parametrize("new_tokens", [1, 2, 6])
@pytest.mark.parametrize("name", ["dense", "withdraw", "text then visual rows"])
def test_generation(name: str, new_tokens: int) -> None:
    model, inputs, _ = _llava()
    schedule = SCHEDULES[name]
    options = {"max_new_tokens": new_tokens, "min_new_tokens": new_tokens, "do_sample": False}
    out: list[Any] = []
    with countable_attention(model, "eager"), apply(model, schedule):
        counted = count_flops(
            lambda: out.append(model.generate(**inputs, **options, pad_token_id=0, return_dict_in_generate=True))
        )
    assert out[0].sequences.shape[1] == LENGTH + new_tokens
    priced = _priced(model, schedule, new_tokens)
    assert counted == priced.flops == priced.end_to_end_flops
    assert cache_bytes(out[0].past_key_values) == priced.kv_bytes


def test_counts_that_depend_on_the_input_come_from_the_report() -> None:
    model, inputs, visual_mask = _text_only()
    schedule = _stages(
        {"layer": 1, "keep": {"mass": 0.6}, "criterion": {"name": "attention", "rows": "text"}},
        {"layer": 3, "keep": {"threshold": 0.2}, "criterion": {"name": "attention", "rows": "visual"}},
    )
    with countable_attention(model, "eager"), apply(model, schedule, visual_mask) as patch:
        counted = count_flops(lambda: model(**inputs, logits_to_keep=1))
        kept = [int(patch.report.tokens[k, 0]) - TEXT for k in (1, 3)]
    assert 0 < kept[1] < kept[0] < VISUAL
    assert counted == _priced(model, schedule, kept=kept).flops
    with pytest.raises(ScheduleError, match=r"stages\[0\].keep.mass.*kept="):
        _priced(model, schedule)


def test_ratio_is_over_decoder_layers_and_scoring_alone() -> None:
    model, _, _ = _llava()
    priced = _priced(model, SCHEDULES["text then visual rows"], 4)
    outside = sum(priced.parts[name] for name in ("head", "vision", "decode"))
    assert priced.decoder_flops == priced.flops - outside
    assert priced.ratio == priced.decoder_flops / priced.decoder_flops_dense
    assert priced.parts["scoring"] > 0
    assert priced.ratio < priced.ratio_end_to_end < 1
    assert priced.kv_bytes / priced.kv_bytes_dense == priced.kv_ratio < 1


def test_images_multiply_the_vision_part_and_a_text_prompt_has_none() -> None:
    config = _llava()[0].config
    one, three = (cost(config, presets.dense(), 48, 10, images=n).parts for n in (1, 3))
    assert three["vision"] == 3 * one["vision"] > 0
    text = cost(config, presets.vtw(2), 0, 10)
    assert text.parts["vision"] == 0
    assert text.ratio == 1.0


def test_architecture_made_once_prices_the_same() -> None:
    config = _llava()[0].config
    schedule = SCHEDULES["text then visual rows"]
    assert cost(Architecture.from_config(config), schedule) == cost(config, schedule)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"visual_tokens": -1}, "visual_tokens"),
        ({"new_tokens": -1}, "new_tokens"),
        ({"images": -1}, "images"),
        ({"visual_tokens": 0, "text_tokens": 0}, "text_tokens"),
        ({"text_tokens": 4, "text_before": 5}, "text_before"),
    ],
)
def test_impossible_prompts_are_refused(options: dict[str, int], field: str) -> None:
    with pytest.raises(DataError) as caught:
        cost(_llama_config(), presets.dense(), **options)
    assert caught.value.field == field


@pytest.mark.parametrize("kept", [(4,), (4, 5), (17, 2), (4, -1)])
def test_impossible_survivors_are_refused(kept: tuple[int, ...]) -> None:
    with pytest.raises(ScheduleError, match="kept"):
        cost(_llama_config(), presets.himap((1, 3)), 16, 10, kept=kept)


def test_schedule_of_another_model_is_refused() -> None:
    other = presets.vtw(2).with_model(_llama_config(hidden_size=64), "other")
    with pytest.raises(ModelError, match="hidden_size"):
        cost(_llama_config(), other)
    for config in (_llama_config(), Architecture.from_config(_llama_config())):
        with pytest.raises(ModelError, match=r"stages\[0\].layer.*0 to 5"):
            cost(config, presets.vtw(6))


def test_a_score_of_the_vision_tower_costs_the_decoder_nothing() -> None:
    scored = _stages({"layer": 1, "keep": {"ratio": 0.5}, "criterion": {"name": "encoder"}})
    assert cost(_llama_config(), scored).flops == cost(_llama_config(), presets.uniform(1, 0.5)).flops
