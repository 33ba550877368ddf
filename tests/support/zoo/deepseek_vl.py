"""DeepSeek-VL: a Llama decoder; the hybrid has a second tower for high resolution."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, SIGLIP, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts

SAM = {**TOWER, "model_type": "sam_vision_model", "output_channels": 16, "image_size": 32, "patch_size": 4}


def deepseek_vl(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.DeepseekVLConfig(
        text_config={"model_type": "llama", **TEXT}, vision_config=SIGLIP, image_token_id=IMAGE
    )
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.DeepseekVLForConditionalGeneration(config)), inputs)


def deepseek_vl_hybrid(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.DeepseekVLHybridConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config=SIGLIP,
        high_res_vision_config={**SAM, "global_attn_indexes": [0, 1], "mlp_dim": 48, "scale": 16},
        image_token_id=IMAGE,
    )
    images = count(plan)
    inputs = {
        **prompts([16] * images, plan),
        "pixel_values": noise(images, 3, 16, 16),
        "high_res_pixel_values": noise(images, 3, 32, 32, seed=2),
    }
    return Zoo(finish(hf.DeepseekVLHybridForConditionalGeneration(config)), inputs)
