"""LLaVA: a fixed number of tokens for each image."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import CLIP, IMAGE, PLAN, TEXT, Plan, Zoo, count, finish, noise, prompts


def llava(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    text = {"model_type": "llama", **TEXT}
    config = hf.LlavaConfig(vision_config=CLIP, text_config=text, image_token_index=IMAGE, vision_feature_layer=-1)
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.LlavaForConditionalGeneration(config)), inputs)
