"""Cohere Compass: attention and MLP in parallel, sliding windows, full layers without positions, deepstack."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs


def cohere_compass(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    text = {
        **TEXT,
        "head_dim": 16,
        "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "rope_parameters": {"sliding_attention": rope, "full_attention": None},
        "logit_scale": 1.0,
    }
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
    config = hf.CohereCompassConfig(
        text_config=text,
        vision_config=tower,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
    )
    return Zoo(finish(hf.CohereCompassForConditionalGeneration(config)), grid_inputs(plan, 96))
