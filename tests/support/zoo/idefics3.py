"""Idefics3 and SmolVLM: images of a sample in one padded row, pixels shuffled into fewer tokens."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import IMAGE, PAD, PLAN, TEXT, TOWER, Plan, Zoo, finish, noise, prompts


def idefics3(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    return _shuffled(hf.Idefics3Config, hf.Idefics3ForConditionalGeneration, plan, seed)


def smolvlm(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    return _shuffled(hf.SmolVLMConfig, hf.SmolVLMForConditionalGeneration, plan, seed)


def _shuffled(config_class: Any, model_class: Any, plan: Plan, seed: int) -> Zoo:
    torch.manual_seed(seed)
    config = config_class(
        vision_config={**TOWER, "image_size": 32, "patch_size": 4},
        text_config={"model_type": "llama", **TEXT},
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=PAD,
    )
    pixels = torch.zeros(len(plan), max(map(len, plan)), 3, 32, 32)
    for b, images in enumerate(plan):
        for place, i in enumerate(images):
            pixels[b, place] = noise(3, 32, 32, seed=i)
    batch = prompts([16] * (1 + max(map(max, plan))), plan)
    return Zoo(finish(model_class(config)), {**batch, "pixel_values": pixels})
