"""Step 3.7: gated attention, sliding windows with more heads than full layers, experts."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def step3p7(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    kinds = ["full_attention", "sliding_attention", "sliding_attention"] * 2
    text = {
        **TEXT,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "num_experts_per_tok": 2,
        "n_routed_experts": 4,
        "moe_intermediate_size": 32,
        "share_expert_dim": 32,
        "mlp_layer_types": ["dense"] * 2 + ["sparse"] * 4,
        "layer_types": kinds,
        "sliding_window": 24,
        "num_sliding_attention_heads": 8,
        "rope_parameters": {kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in kinds},
    }
    config = hf.Step3p7Config(
        text_config=text, vision_config={**TOWER, "image_size": 64, "patch_size": 4}, image_token_id=IMAGE
    )
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 64, 64)}
    return Zoo(finish(hf.Step3p7ForConditionalGeneration(config)), inputs)
