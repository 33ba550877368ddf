"""Kimi K2.5: keys and values from a shared latent vector, experts in most layers."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, TOWER, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs

LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
}
EXPERTS = {
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}


def kimi_k25(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Kimi_K25Config(
        text_config={"model_type": "deepseek_v3", **TEXT, **LATENT, **EXPERTS},
        vision_config={**TOWER, "patch_size": 4, "pos_emb_height": 8, "pos_emb_width": 8},
        projection_hidden_size=32,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
    )
    inputs = grid_inputs(plan, 48)
    del inputs["mm_token_type_ids"]
    inputs["pixel_values"] = inputs["pixel_values"].view(-1, 3, 4, 4)
    return Zoo(finish(hf.Kimi_K25ForConditionalGeneration(config)), inputs)
