"""LightOnOCR: pages of any size before a Qwen3 decoder."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def lighton_ocr(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    tower = {"model_type": "pixtral", **TOWER, "head_dim": 16, "image_size": 32, "patch_size": 4}
    config = hf.LightOnOcrConfig(
        vision_config=tower,
        text_config={"model_type": "qwen3", **TEXT, "head_dim": 16},
        image_token_id=IMAGE,
        spatial_merge_size=2,
    )
    sizes = torch.tensor([[32, 32], [16, 32], [32, 16]])[: count(plan)]
    inputs = {
        **prompts((sizes.prod(1) // 64).tolist(), plan),
        "pixel_values": noise(count(plan), 3, 32, 32),
        "image_sizes": sizes,
    }
    return Zoo(finish(hf.LightOnOcrForConditionalGeneration(config)), inputs)
