"""VipLLaVA: features of several layers of the tower beside each other."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import CLIP, IMAGE, PLAN, TEXT, Plan, Zoo, count, finish, noise, prompts


def vipllava(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.VipLlavaConfig(
        vision_config={**CLIP, "num_hidden_layers": 11},
        text_config={"model_type": "llama", **TEXT},
        image_token_index=IMAGE,
    )
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.VipLlavaForConditionalGeneration(config)), inputs)
