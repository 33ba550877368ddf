"""HyperCLOVA X SEED Vision 2: a Qwen2.5-VL tower before a decoder with scaled residuals."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.exaone4_5 import TOWER
from support.zoo.grids import grid_inputs


def hyperclovax_vision_v2(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.HyperCLOVAXVisionV2Config(
        vision_config={"model_type": "qwen2_5_vl_vision", **TOWER},
        text_config={"model_type": "hyperclovax", **TEXT, "head_dim": 16},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
    )
    inputs = grid_inputs(plan, 96)
    del inputs["mm_token_type_ids"]
    return Zoo(finish(hf.HyperCLOVAXVisionV2ForConditionalGeneration(config)), inputs)
