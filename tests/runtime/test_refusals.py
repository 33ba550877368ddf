"""Kinds of models that cannot be pruned exactly are refused at once, and the error says why."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from support.refused import ENCODER, REFUSED
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

import autoprune
from autoprune import presets
from autoprune.errors import ModelError


def unweighted(kind: str, config: hf.PreTrainedConfig) -> torch.nn.Module:
    """The model at its real size, without memory for its weights."""
    with torch.device("meta"):
        return getattr(hf, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[kind])(config)


@pytest.mark.parametrize("kind", REFUSED)
def test_is_refused_with_the_reason(kind: str) -> None:
    if kind not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        pytest.skip(f"transformers {hf.__version__} has no {kind}")
    model = unweighted(kind, CONFIG_MAPPING[kind](**REFUSED[kind].config))
    before = set(model.__dict__)
    with pytest.raises(ModelError) as caught:
        autoprune.apply(model, presets.vtw(1), visual_mask=torch.zeros(1, 4, dtype=torch.bool))
    message = str(caught.value)
    assert REFUSED[kind].reason in message
    assert "\n" not in message
    assert set(model.__dict__) == before


def test_a_decoder_only_family_with_an_encoder_decoder_inside_is_refused() -> None:
    text = {"model_type": "t5", "num_layers": 2}
    model = unweighted("blip-2", hf.Blip2Config(text_config=text, use_decoder_only_language_model=False))
    with pytest.raises(ModelError) as caught:
        autoprune.apply(model, presets.vtw(1))
    assert ENCODER in str(caught.value)
