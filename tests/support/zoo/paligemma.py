"""PaliGemma: the whole prompt sees both ways."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, SIGLIP, TEXT, Plan, Zoo, count, finish, noise, prompts


def paligemma(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.PaliGemmaConfig(
        vision_config={**SIGLIP, "projection_dim": 64},
        text_config={"model_type": "gemma", **TEXT, "head_dim": 16},
        image_token_index=IMAGE,
        projection_dim=64,
    )
    images = count(plan)
    batch = prompts([16] * images, plan)
    inputs = {
        **batch,
        "pixel_values": noise(images, 3, 16, 16),
        "token_type_ids": torch.zeros_like(batch["input_ids"]),
    }
    return Zoo(finish(hf.PaliGemmaForConditionalGeneration(config)), inputs)
