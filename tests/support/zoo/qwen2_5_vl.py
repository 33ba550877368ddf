"""Qwen2.5-VL: images of any size, three-dimensional positions, windows in the tower."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs, patch_width


def qwen2_5_vl(plan: Plan = PLAN, seed: int = 0, video: bool = False) -> Zoo:
    torch.manual_seed(seed)
    tower = {
        "depth": 2,
        "hidden_size": 32,
        "out_hidden_size": 64,
        "intermediate_size": 48,
        "num_heads": 2,
        "patch_size": 4,
        "window_size": 16,
        "fullatt_block_indexes": [1],
    }
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}
    config = hf.Qwen2_5_VLConfig(
        vision_config=tower,
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
    )
    inputs = grid_inputs(plan, patch_width(config.vision_config), video)
    return Zoo(finish(hf.Qwen2_5_VLForConditionalGeneration(config)), inputs, (IMAGE, VIDEO))
