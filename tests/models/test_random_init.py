"""Random models: deterministic, sane, cut to a depth, from whatever names a config."""

from __future__ import annotations

import pytest
import torch
import transformers as hf

from autoprune.errors import ModelError
from autoprune.models.options import ModelOptions
from autoprune.models.random_init import random_model

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
}


def _gemma() -> hf.PreTrainedConfig:
    kinds = ["sliding_attention", "full_attention"] * 3
    return hf.Gemma3TextConfig(**TEXT, head_dim=8, sliding_window=8, layer_types=kinds)


def _llava() -> hf.PreTrainedConfig:
    tower = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"model_type": "clip_vision_model", **tower, "image_size": 8, "patch_size": 4, "projection_dim": 16}
    return hf.LlavaConfig(vision_config=vision, text_config={"model_type": "llama", **TEXT}, image_token_index=5)


def _parameters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def test_the_weights_are_those_of_the_models_own_initialisation_up_to_the_draw() -> None:
    config = _llava()
    torch.manual_seed(0)
    drawn, model = _parameters(hf.LlavaForConditionalGeneration(config)), _parameters(random_model(config))
    assert drawn.keys() == model.keys()
    for name, weight in model.items():
        assert weight.shape == drawn[name].shape
        assert torch.isclose(weight.std(), drawn[name].std(), rtol=0.5), name  # few numbers; ones and zeros exactly
        error = drawn[name].std() * (2 / weight.numel()) ** 0.5
        assert abs(weight.mean() - drawn[name].mean()) <= 5 * error, name


def test_no_two_weights_and_no_two_rows_are_alike() -> None:
    layers = random_model(_llava()).get_decoder().layers
    weights = [layer.mlp.up_proj.weight for layer in layers]
    rows = torch.nn.functional.normalize(torch.cat(weights), dim=1)
    assert (rows @ rows.T).fill_diagonal_(0).abs().max() < 0.9


def test_the_same_weights_every_time_and_the_users_generator_untouched() -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    first, second = random_model(_gemma()), random_model(_gemma())
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not first.training
    assert not any(p.requires_grad for p in first.parameters())


@pytest.mark.parametrize("config", [_gemma, _llava])
def test_a_slice_of_the_depth(config) -> None:
    whole = config()
    model = random_model(whole, layers=3, options=ModelOptions(dtype="bfloat16"))
    assert len(model.get_decoder().layers) == 3
    assert model.dtype == torch.bfloat16
    assert whole.get_text_config().num_hidden_layers == 6
    logits = model(inputs_embeds=torch.randn(1, 12, 32, dtype=torch.bfloat16)).logits
    assert logits.isfinite().all()


def test_a_folder_and_its_file(tmp_path) -> None:
    _gemma().save_pretrained(tmp_path)
    assert type(random_model(tmp_path)) is type(random_model(str(tmp_path / "config.json"))) is hf.Gemma3ForCausalLM


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"layers": 7}, "layers"),
        ({"layers": 0}, "layers"),
        ({"options": ModelOptions(device="cuda:7")}, "device"),
        ({"options": ModelOptions(device_map="auto")}, "device_map"),
        ({"options": ModelOptions(attn_implementation="x")}, "attn_implementation"),
    ],
)
def test_what_cannot_be_built_is_refused(wrong, field, tmp_path) -> None:
    with pytest.raises(ModelError, match=field):
        random_model(_gemma(), **wrong)
    with pytest.raises(ModelError, match=r"model\.path"):
        random_model(tmp_path)
    with pytest.raises(ModelError, match="cannot be built"):
        random_model(hf.CLIPVisionConfig())


def test_a_config_that_torch_refuses_is_bad_input():
    broken = hf.LlamaConfig(**TEXT, pad_token_id=TEXT["vocab_size"])
    with pytest.raises(ModelError, match="cannot be built"):
        random_model(broken)
