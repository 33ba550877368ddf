"""EXAONE 4.5: norms after attention, sliding windows, full layers without positions."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs

TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 4,
    "window_size": 16,
    "fullatt_block_indexes": [1],
}


def exaone4_5(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    text = {
        "model_type": "exaone4",
        **TEXT,
        "head_dim": 16,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
    }
    config = hf.Exaone4_5_Config(
        vision_config={**TOWER, "num_key_value_heads": 1},
        text_config=text,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
    )
    inputs = grid_inputs(plan, 96)
    del inputs["mm_token_type_ids"]
    return Zoo(finish(hf.Exaone4_5_ForConditionalGeneration(config)), inputs)
