"""Aria: experts, and a projector that asks the image a fixed number of questions."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def aria(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.AriaConfig(
        initializer_range=TEXT["initializer_range"],
        vision_config={"model_type": "idefics3_vision", **TOWER, "image_size": 16, "patch_size": 4},
        text_config=hf.AriaTextConfig(**TEXT, moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
        image_token_index=IMAGE,
        projector_patch_to_query_dict={16: 12},
    )
    images = count(plan)
    inputs = {**prompts([12] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.AriaForConditionalGeneration(config)), inputs)
