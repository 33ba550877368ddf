"""ERNIE 4.5 VL: visual and text tokens have experts of their own."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs


def ernie4_5_vl_moe(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    text = {
        **TEXT,
        "moe_intermediate_size": [32, 16],
        "moe_k": 2,
        "moe_num_experts": 4,
        "moe_num_shared_experts": 1,
        "mlp_layer_types": ["dense"] + ["sparse"] * 5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [3, 3, 2]},
    }
    tower = {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 4, "intermediate_size": 48}
    config = hf.Ernie4_5_VLMoeConfig(
        text_config=text,
        vision_config=tower,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        image_start_token_id=BEFORE,
        image_end_token_id=AFTER,
        video_start_token_id=BEFORE,
        video_end_token_id=AFTER,
    )
    inputs = grid_inputs(plan, 48)
    marked = torch.tensor([BEFORE, AFTER, IMAGE])
    inputs["moe_mm_token_type_ids"] = torch.isin(inputs["input_ids"], marked).int()
    return Zoo(finish(hf.Ernie4_5_VLMoeForConditionalGeneration(config)), inputs)
