"""Every family that `Architecture` prices, dense, against the operation counter: equal to the FLOP and to the byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from support.flops import cache_bytes, count_flops, countable_attention
from support.rows import absent, families
from support.schedules import WITHDRAW, attention
from support.schedules import schedule as schedule_of
from support.versions import INSTALLED, needs
from support.zoo import FAMILIES, HYBRIDS
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

import autoprune
from autoprune import presets
from autoprune.errors import ModelError, ScheduleError
from autoprune.pricing.architecture import Architecture
from autoprune.pricing.cost import Pricer, cost
from autoprune.pricing.counting import vision_flops
from autoprune.pricing.tokens import count_prompts, visual_alive
from autoprune.runtime.decoder import decoder_layers, find_decoder

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 99,
    "pad_token_id": 0,
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
WINDOW = {"sliding_window": 12, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, grouped heads": ("llama", {}),
    "llama, one key per head": ("llama", {"num_key_value_heads": 4}),
    "llama, heads wider than hidden": ("llama", {"head_dim": 16}),
    "mistral, sliding in all layers": ("mistral", {"sliding_window": 12}),
    "gemma": ("gemma", {"head_dim": 16}),
    "gemma2": ("gemma2", {"head_dim": 16, **WINDOW}),
    "gemma3, sliding in some layers": ("gemma3_text", {"head_dim": 16, **WINDOW}),
    "glm4": ("glm4", {"head_dim": 8}),
    "granite": ("granite", {}),
    "olmo2": ("olmo2", {}),
    "phi3": ("phi3", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 16}),
    "smollm3": ("smollm3", {}),
    "phi, plain feed-forward": ("phi", {}),
    "starcoder2, plain feed-forward": ("starcoder2", {}),
    "mixtral": ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe, shared expert, one dense layer": (
        "qwen2_moe",
        {**EXPERTS, "shared_expert_intermediate_size": 40, "mlp_only_layers": [1]},
    ),
    "qwen3_moe, every second layer": ("qwen3_moe", {**EXPERTS, "decoder_sparse_step": 2, "head_dim": 8}),
}
CLIP = {"model_type": "clip_vision_model", "num_attention_heads": 2, "image_size": 16, "patch_size": 4}
CLIP |= {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3}
SIGLIP = {**CLIP, "model_type": "siglip_vision_model"}
LLAMA = {**TEXT, "model_type": "llama"}
GEMMA = {**TEXT, "model_type": "gemma", "head_dim": 8}
IMAGE = 5
TWO_TILES = {
    "image_grid_pinpoints": [[16, 32]]
}  # an image of this shape passes the tower three times: whole and halves
VISION: dict[str, tuple[str, dict[str, Any], int]] = {
    "llava, CLIP": ("Llava", {"vision_config": CLIP, "text_config": LLAMA}, 1),
    "llava, CLIP, class token kept": (
        "Llava",
        {"vision_config": CLIP, "text_config": LLAMA, "vision_feature_select_strategy": "full"},
        1,
    ),
    "llava, two feature layers": (
        "Llava",
        {"vision_config": CLIP, "text_config": LLAMA, "vision_feature_layer": [-2, -1]},
        1,
    ),
    "llava, SigLIP": (
        "Llava",
        {"vision_config": SIGLIP, "text_config": LLAMA, "vision_feature_select_strategy": "full"},
        1,
    ),
    "llava_next, tiles": ("LlavaNext", {"vision_config": CLIP, "text_config": LLAMA, **TWO_TILES}, 3),
    "llava_onevision, tiles": ("LlavaOnevision", {"vision_config": SIGLIP, "text_config": LLAMA, **TWO_TILES}, 3),
    "paligemma": (
        "PaliGemma",
        {"vision_config": {**SIGLIP, "projection_dim": 32}, "text_config": GEMMA, "projection_dim": 32},
        1,
    ),
    "gemma3": (
        "Gemma3",
        {"vision_config": SIGLIP, "text_config": {**TEXT, "head_dim": 8}, "mm_tokens_per_image": 4},
        1,
    ),
}


def _without_attention(name: str) -> Any:
    """A family some of whose layers have no attention."""
    missing = pytest.mark.skipif(absent(name), reason=f"transformers {transformers.__version__} has no {name}")
    kernels = needs("5.23", "convolutions and delta rules are computed in other steps")
    return pytest.param(name, marks=[missing, kernels, *([] if name in ("lfm2_vl", "qwen3_5") else [pytest.mark.wide])])


@pytest.mark.parametrize("family", [*families(), *map(_without_attention, HYBRIDS)])
def test_decoders_of_the_zoo(family: str) -> None:
    """As the whole model calls them, batch and padding included."""
    model, inputs = (zoo := {**FAMILIES, **HYBRIDS}[family].build()).model, zoo.inputs
    _countable_experts(model)
    layers, seen = decoder_layers(find_decoder(model)), []
    handle = layers[0].register_forward_pre_hook(
        lambda m, a, k: seen.append([*a, *k.values()][0].shape), with_kwargs=True
    )
    counter = FlopCounterMode(display=False)
    with countable_attention(model, "eager"), torch.no_grad(), counter:
        out = model(**inputs, use_cache=True, logits_to_keep=1)
    handle.remove()
    names = {m: f"{type(model).__name__}.{n}" for n, m in model.named_modules()}
    counted = sum(sum(counter.get_flop_counts()[names[layer]].values()) for layer in layers)
    batch, length = seen[0][:2]
    routes = inputs.get("moe_mm_token_type_ids", torch.ones(batch, length - 4))  # which tokens have experts of images
    words = [length - int(row.sum()) for row in routes]
    prices = [cost(model.config, presets.dense(), length - n, n, dtype_bytes=4) for n in words]
    assert counted == sum(priced.decoder_flops for priced in prices)
    expanded = family == "mistral4" and Version("5.23") > INSTALLED  # older releases cache its keys in full
    if (cache := getattr(out, "past_key_values", None)) is not None and not expanded:  # some keep it to themselves
        assert cache_bytes(cache) == sum(priced.kv_bytes for priced in prices)


@pytest.mark.parametrize(
    "family",
    [
        *map(_without_attention, ("lfm2_vl", "lfm3_vl", "qwen3_5", "qwen3_5_moe")),
        pytest.param("ernie4_5_vl_moe", marks=pytest.mark.wide),
    ],
)
def test_pruned_generation_of_layers_without_attention_and_experts_by_modality(family: str) -> None:
    """Prefill, scores and decode steps of an image with its words, the tokens at its start and end included."""
    zoo = {**FAMILIES, **HYBRIDS}[family].build(plan=[[0]])
    model, inputs, new = zoo.model, zoo.inputs, 4
    _countable_experts(model)
    counts = count_prompts(inputs, torch.tensor([zoo.visual.shape[1]]), zoo.visual, [new])[0]
    assert (counts.text_as_visual == 2) == (family == "ernie4_5_vl_moe")
    schedule = schedule_of((2, {"ratio": 0.5}, attention("text")), (5, WITHDRAW, None))
    kept = visual_alive(schedule, counts.visual, None)[1:]
    counts = replace(counts, vision_flops=vision_flops(model, inputs))
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "return_dict_in_generate": True}
    out: list[Any] = []
    with countable_attention(model, "eager"), autoprune.apply(model, schedule):
        counted = count_flops(lambda: out.append(model.generate(**inputs, **options)))
    priced = Pricer(model.config, 4).price(schedule, counts, kept)
    assert counted == priced.flops
    assert cache_bytes(out[0].past_key_values) == priced.kv_bytes


@pytest.mark.parametrize(
    "family",
    [
        pytest.param("kimi_k25", marks=pytest.mark.skipif(absent("kimi_k25"), reason="this transformers has none")),
        *(family for family in families() if family.values[0] in ("aria", "llama4", "muse_spark", "step3p7")),
    ],
)
def test_generation_with_attention_and_experts_of_other_kinds(family: str) -> None:
    """Decode steps too: a latent cache is expanded in each of them, windows and chunks keep what they keep."""
    model = FAMILIES[family].build().model
    _countable_experts(model)
    ids, new = torch.arange(20, 40)[None], 4
    with countable_attention(model, "eager"):
        counted = count_flops(
            lambda: model.generate(input_ids=ids, max_new_tokens=new, min_new_tokens=new, do_sample=False)
        )
    assert counted == cost(model.config, presets.dense(), 0, 20, new).flops


@needs("5.23", "convolutions and delta rules are computed in other steps")
@pytest.mark.parametrize("length", [1, 3, 64, 65, 150])
@pytest.mark.parametrize("family", ["lfm2_vl", "qwen3_5"])
def test_recurrences_over_prompts_of_any_length(family: str, length: int) -> None:
    """Shorter than the filter, a whole chunk of the delta rule, and several with a rest."""
    model = HYBRIDS[family].build().model
    with countable_attention(model, "eager"):
        counted = count_flops(lambda: model(input_ids=torch.arange(length)[None] % 100 + 20, logits_to_keep=1))
    assert counted == cost(model.config, presets.dense(), 0, length).flops


def test_scores_of_a_layer_without_attention_have_no_price() -> None:
    config = HYBRIDS["qwen3_5"].build().model.config  # its layers 1 and 4 have attention
    assert cost(config, presets.fastv(2, 0.5)).parts["scoring"] > 0
    with pytest.raises(ScheduleError, match="layer 2 has no attention"):
        cost(config, presets.fastv(3, 0.5))


def test_a_config_with_other_fields_is_refused() -> None:
    """As releases of transformers have them that are older than the one in which the structure was read."""
    config = FAMILIES["llava"].build().model.config
    config.text_config.model_type = "gemma4_text"
    with pytest.raises(ModelError, match=r"has no \w+, .* newer release of transformers") as raised:
        Architecture.from_config(config)
    assert raised.value.field == "model_type"


@needs("5.23", "Gemma 4 has other fields in its config")
def test_inputs_of_each_layer_leave_the_price_end_to_end_open() -> None:
    """The decoder makes them out of the embeddings before its first layer."""
    config = FAMILIES["gemma4"].build().model.config
    for tokens in ((12, 8), (0, 20)):
        priced = cost(config, presets.vtw(1), *tokens, vision_flops=1000)
        assert priced.ratio <= 1
        assert priced.ratio_end_to_end is None


def _countable_experts(model: Any) -> None:
    """Experts in kernels that the counter sees; its tracker of modules fails on weights that are handed to one."""
    model.requires_grad_(False)
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize(("model_type", "options"), DECODERS.values(), ids=DECODERS)
def test_decoder(model_type: str, options: dict[str, Any], implementation: str) -> None:
    if (model_type, implementation) == ("gemma2", "sdpa"):
        pytest.skip("transformers has no sdpa for gemma2")
    config = AutoConfig.for_model(model_type, **{**TEXT, **options})
    model = AutoModelForCausalLM.from_config(config).eval()
    if "moe" in model_type or model_type == "mixtral":
        model.set_experts_implementation("eager")  # the counter does not see the grouped kernel
    embeds, out = torch.randn(1, 20, 32), []
    with countable_attention(model, implementation):
        counted = count_flops(lambda: out.append(model(inputs_embeds=embeds, use_cache=True, logits_to_keep=1)))
    priced = cost(model.config, presets.dense(), 12, 8, dtype_bytes=4)
    assert counted == priced.flops
    assert cache_bytes(out[0].past_key_values) == priced.kv_bytes


@pytest.mark.parametrize(("name", "options", "passes"), VISION.values(), ids=VISION)
def test_vision_tower_and_projector(name: str, options: dict[str, Any], passes: int) -> None:
    config = getattr(transformers, f"{name}Config")(**options)
    config.image_token_id = IMAGE
    model = getattr(transformers, f"{name}ForConditionalGeneration")(config).eval()
    pixels = torch.randn(1, 3, 16, 16)
    sizes = {}
    if passes > 1:
        pixels, sizes = torch.randn(1, passes, 3, 16, 16), {"image_sizes": torch.tensor([[16, 32]])}
    with countable_attention(model, "eager"):
        counted = count_flops(lambda: model.get_image_features(pixels, **sizes))
    priced = cost(config, presets.dense(), images=passes)
    assert counted == priced.parts["vision"]
    assert "NOT priced" not in priced.convention


@pytest.mark.parametrize("name", ["Qwen2VL", "Qwen2_5_VL", "Qwen3VL"])
def test_unknown_vision_part_leaves_the_end_to_end_price_open(name: str) -> None:
    rope = {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e4}, "head_dim": 8}
    vision = {"depth": 1, "hidden_size": 32, "num_heads": 2, "patch_size": 4}
    config = getattr(transformers, f"{name}Config")(text_config={**TEXT, **rope}, vision_config=vision)
    priced = cost(config, presets.vtw(1), 12, 8)
    assert priced.ratio < 1
    assert priced.ratio_end_to_end is priced.flops is priced.flops_dense is priced.macs is None
    assert "NOT priced" in priced.convention
    text = cost(config, presets.vtw(1), 0, 20)
    assert text.flops is not None
    assert "NOT priced" not in text.convention
    counted = cost(config, presets.vtw(1), 12, 8, vision_flops=1000)
    assert counted.flops == sum(counted.parts.values())
    assert counted.parts["vision"] == 1000


def test_unknown_decoder_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"model_type.*'gpt2'.*llama"):
        Architecture.from_config(AutoConfig.for_model("gpt2"))


def test_unknown_layer_kind_is_refused() -> None:
    config = LlamaConfig(**TEXT)
    config.layer_types = ["full_attention", "linear_attention", "full_attention"]
    with pytest.raises(ModelError, match=r"layer_types.*linear_attention"):
        Architecture.from_config(config)


def test_bytes_follow_the_dtype_of_the_config() -> None:
    sizes = {}
    for dtype in (None, torch.bfloat16, torch.float32):
        sizes[dtype] = cost(LlamaConfig(**TEXT, dtype=dtype), presets.dense(), 12, 8).kv_bytes
    assert sizes[torch.float32] == 2 * sizes[torch.bfloat16] == 2 * sizes[None]
    decoder_only = transformers.LlavaConfig(vision_config=CLIP, text_config={**LLAMA, "dtype": "float32"})
    assert cost(decoder_only, presets.dense(), 12, 8).kv_bytes == sizes[torch.float32]
