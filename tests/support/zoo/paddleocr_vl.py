"""PaddleOCR-VL: pages of any size, three-dimensional positions, before an Ernie 4.5 decoder."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, TOWER, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs

ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}


def paddleocr_vl(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.PaddleOCRVLConfig(
        vision_config={**TOWER, "image_size": 32, "patch_size": 4},
        text_config={**TEXT, "head_dim": 16, "rope_parameters": ROPE},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
    )
    inputs = grid_inputs(plan, 48)
    inputs["pixel_values"] = inputs["pixel_values"].view(-1, 3, 4, 4)
    return Zoo(finish(hf.PaddleOCRVLForConditionalGeneration(config)), inputs)
