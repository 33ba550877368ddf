"""Qwen3-VL: features of the tower are added after the first three decoder layers (deepstack)."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs, patch_width

TOWER = {
    "depth": 4,
    "hidden_size": 32,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 4,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1, 2],
}
ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}


def qwen3_vl(plan: Plan = PLAN, seed: int = 0, video: bool = False) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Qwen3VLConfig(
        vision_config=TOWER,
        text_config={**TEXT, "head_dim": 16, "rope_parameters": ROPE},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
    )
    inputs = grid_inputs(plan, patch_width(config.vision_config), video, frame_by_frame=True)
    return Zoo(finish(hf.Qwen3VLForConditionalGeneration(config)), inputs, (IMAGE, VIDEO))
