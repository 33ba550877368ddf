"""DeepSeek-OCR 2: a page in a fixed number of queries, before a decoder with experts."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts

QUERIES = 144
"""Built into the model for small pages."""


def deepseek_ocr2(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    sam = {
        **TOWER,
        "output_channels": 16,
        "image_size": 32,
        "patch_size": 4,
        "window_size": 4,
        "global_attn_indexes": [1],
        "mlp_dim": 48,
        "downsample_channels": [16, 32],
        "scale": 16,
        "initializer_range": 0.1,
    }
    encoder = {**TOWER, "vocab_size": 8, "num_key_value_heads": 1, "initializer_range": 0.1}
    text = {
        **TEXT,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
        "mlp_layer_types": ["dense"] + ["sparse"] * 5,
    }
    config = hf.DeepseekOcr2Config(
        vision_config={"sam_config": sam, "encoder_config": encoder}, text_config=text, image_token_id=IMAGE
    )
    images = count(plan)
    inputs = {**prompts([QUERIES + 1] * images, plan), "pixel_values": noise(images, 3, 32, 32)}
    return Zoo(finish(hf.DeepseekOcr2ForConditionalGeneration(config)), inputs)
