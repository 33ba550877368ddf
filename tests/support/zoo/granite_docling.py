"""Granite Docling: tiles; features of the tower are added after the first decoder layers."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def granite_docling(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    tower = {
        **TOWER,
        "image_size": 16,
        "patch_size": 2,
        "out_hidden_size": 64,
        "scale_factor": 2,
        "deepstack_visual_indexes": [0, 1],
    }
    plain = {"embedding_multiplier": 1.0, "residual_multiplier": 1.0, "logits_scaling": 1.0}
    text = {**TEXT, **plain, "attention_multiplier": 0.25}
    config = hf.GraniteDoclingConfig(text_config=text, vision_config=tower, image_token_id=IMAGE, pad_token_id=0)
    most = max(map(len, plan))
    real = torch.tensor([[place < len(images) for place in range(most)] for images in plan])
    inputs = {
        **prompts([16] * count(plan), plan),
        "pixel_values": noise(len(plan), most, 3, 16, 16),
        "pixel_attention_mask": real,
    }
    return Zoo(finish(hf.GraniteDoclingForConditionalGeneration(config)), inputs)
