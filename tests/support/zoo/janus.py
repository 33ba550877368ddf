"""Janus: a decoder that also draws; here it only reads images."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def janus(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    painter = {
        "embed_dim": 8,
        "num_embeddings": 16,
        "latent_channels": 8,
        "base_channels": 32,
        "channel_multiplier": [1, 1],
        "num_res_blocks": 1,
        "num_patches": 4,
        "projection_dim": 64,
        "image_token_embed_dim": 64,
    }
    config = hf.JanusConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config={**TOWER, "image_size": 16, "patch_size": 4, "projection_dim": 64, "num_image_tokens": 16},
        vq_config=painter,
        image_token_id=IMAGE,
    )
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.JanusForConditionalGeneration(config)), inputs)
