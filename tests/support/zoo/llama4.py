"""Llama 4: attention in chunks, complex rotary embeddings, layers without positions, experts."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def llama4(plan: Plan = PLAN, seed: int = 0, floor_scale: int = 8192) -> Zoo:
    """Chunks shorter than the prompt.

    Args:
        plan: Images of each sample.
        seed: Of the weights.
        floor_scale: Length from which the layers without positions sharpen their attention.
    """
    torch.manual_seed(seed)
    text = {
        **TEXT,
        "head_dim": 16,
        "intermediate_size_mlp": 96,
        "num_local_experts": 4,
        "interleave_moe_layer_step": 2,
        "no_rope_layer_interval": 3,
        "attention_chunk_size": 16,
        "floor_scale": floor_scale,
    }
    tower = {
        **TOWER,
        "image_size": 32,
        "patch_size": 4,
        "intermediate_size": 128,
        "projector_input_dim": 32,
        "projector_output_dim": 32,
        "vision_output_dim": 32,
        "initializer_range": 0.2,
    }
    config = hf.Llama4Config(vision_config=tower, text_config=text, image_token_index=IMAGE)
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 32, 32)}
    return Zoo(finish(hf.Llama4ForConditionalGeneration(config)), inputs)
