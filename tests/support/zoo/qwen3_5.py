"""Qwen3.5: a gated delta rule in most layers, attention in every third one here; dense and with experts."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs, patch_width

TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 4,
    "num_position_embeddings": 64,
}
HYBRID = {
    **TEXT,
    "initializer_range": 0.08,
    "head_dim": 16,
    "rope_parameters": {
        "rope_type": "default",
        "mrope_section": [2, 1, 1],
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
    },
    "layer_types": ["linear_attention", "full_attention", "linear_attention"] * 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
}


def qwen3_5(plan: Plan = PLAN, seed: int = 0, video: bool = False) -> Zoo:
    return _build(hf.Qwen3_5Config, hf.Qwen3_5ForConditionalGeneration, HYBRID, plan, seed, video)


def qwen3_5_moe(plan: Plan = PLAN, seed: int = 0, video: bool = False) -> Zoo:
    text = {**HYBRID, **EXPERTS}
    return _build(hf.Qwen3_5MoeConfig, hf.Qwen3_5MoeForConditionalGeneration, text, plan, seed, video)


def _build(config_class: Any, model_class: Any, text: dict[str, Any], plan: Plan, seed: int, video: bool) -> Zoo:
    torch.manual_seed(seed)
    config = config_class(
        vision_config=TOWER,
        text_config=text,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
    )
    inputs = grid_inputs(plan, patch_width(config.vision_config), video, frame_by_frame=True)
    return Zoo(finish(model_class(config)), inputs, (IMAGE, VIDEO))
