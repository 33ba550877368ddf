"""Qwen2-VL: images of any size, three-dimensional positions."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs, patch_width


def qwen2_vl(plan: Plan = PLAN, seed: int = 0, video: bool = False) -> Zoo:
    torch.manual_seed(seed)
    tower = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "patch_size": 4, "mlp_ratio": 2}
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}
    config = hf.Qwen2VLConfig(
        vision_config=tower,
        text_config={**TEXT, "rope_parameters": rope},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
    )
    inputs = grid_inputs(plan, patch_width(config.vision_config), video)
    return Zoo(finish(hf.Qwen2VLForConditionalGeneration(config)), inputs, (IMAGE, VIDEO))
