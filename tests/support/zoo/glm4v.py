"""GLM-4V: three-dimensional positions in interleaved pairs, norms also after attention and MLP."""

from __future__ import annotations

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
    "image_size": 32,
}
ROPE = {
    "rope_type": "default",
    "mrope_section": [2, 1, 1],
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.5,
}


def glm4v(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Glm4vConfig(
        vision_config=TOWER,
        text_config={**TEXT, "head_dim": 16, "rope_parameters": ROPE},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        image_start_token_id=BEFORE,
        image_end_token_id=AFTER,
        video_start_token_id=9,
        video_end_token_id=3,
    )
    inputs = grid_inputs(plan, patch_width(config.vision_config))
    return Zoo(finish(hf.Glm4vForConditionalGeneration(config)), inputs, (IMAGE, VIDEO))
