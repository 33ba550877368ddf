"""Mistral 3: a Pixtral tower for images of any size, four patches merged into a token."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def mistral3(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Mistral3Config(
        vision_config={"model_type": "pixtral", **TOWER, "head_dim": 16, "image_size": 32, "patch_size": 4},
        text_config={"model_type": "mistral", **TEXT, "head_dim": 16, "sliding_window": None},
        image_token_index=IMAGE,
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )
    images = count(plan)
    sizes = torch.tensor([[32, 32], [16, 32], [32, 16]])[:images]
    batch = prompts((sizes // 8).prod(1).tolist(), plan)
    inputs = {**batch, "pixel_values": noise(images, 3, 32, 32), "image_sizes": sizes}
    return Zoo(finish(hf.Mistral3ForConditionalGeneration(config)), inputs)
