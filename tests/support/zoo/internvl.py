"""InternVL: tiles of pixel-shuffled patches before a Qwen2 decoder."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def internvl(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.InternVLConfig(
        vision_config={**TOWER, "image_size": [16, 16], "patch_size": [2, 2]},
        text_config={"model_type": "qwen2", **TEXT},
        image_token_id=IMAGE,
        image_seq_length=16,
        vision_feature_layer=-1,
    )
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.InternVLForConditionalGeneration(config)), inputs)
