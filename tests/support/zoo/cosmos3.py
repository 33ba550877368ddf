"""Cosmos 3: the edge model has a decoder of its own, the omni model that of Qwen3-VL (no deepstack)."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, TOWER, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs

ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}
IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "vision_start_token_id": BEFORE,
    "vision_end_token_id": AFTER,
}


def cosmos3_edge(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Cosmos3EdgeConfig(
        text_config={**TEXT, "head_dim": 16, "rope_parameters": ROPE},
        vision_config={**TOWER, "patch_size": 4, "num_patches": 64},
        projector_hidden_size=64,
        **IDS,
    )
    return Zoo(finish(hf.Cosmos3EdgeForConditionalGeneration(config)), grid_inputs(plan, 48))


def cosmos3_omni(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    tower = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 4,
        "out_hidden_size": 64,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1, 2],
    }
    config = hf.Cosmos3OmniConfig(
        text_config={"model_type": "qwen3_vl_text", **TEXT, "head_dim": 16, "rope_parameters": ROPE},
        vision_config={"model_type": "qwen3_vl_vision", **tower},
        **IDS,
    )
    return Zoo(finish(hf.Cosmos3OmniForConditionalGeneration(config)), grid_inputs(plan, 96))
