"""Cohere2-Vision and Aya-Vision: layers with a sliding window and rotary positions, layers with neither."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, SIGLIP, TEXT, Plan, Zoo, count, finish, noise, prompts

COHERE2 = {
    "model_type": "cohere2",
    **TEXT,
    "sliding_window": 24,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
    "logit_scale": 1.0,
}


def cohere2_vision(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Cohere2VisionConfig(
        vision_config={**SIGLIP, "image_size": 32},
        text_config=COHERE2,
        image_token_id=IMAGE,
        alignment_intermediate_size=64,
        tie_word_embeddings=False,
    )
    return _zoo(hf.Cohere2VisionForConditionalGeneration(config), plan)


def aya_vision(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.AyaVisionConfig(
        vision_config={**SIGLIP, "image_size": 32},
        text_config=COHERE2,
        image_token_index=IMAGE,
        tie_word_embeddings=False,
    )
    return _zoo(hf.AyaVisionForConditionalGeneration(config), plan)


def _zoo(model: Any, plan: Plan) -> Zoo:
    images = count(plan)
    return Zoo(finish(model), {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 32, 32)})
