"""Qwen3-VL-MoE: as Qwen3-VL, with experts."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs, patch_width
from support.zoo.qwen3_vl import ROPE, TOWER


def qwen3_vl_moe(plan: Plan = PLAN, seed: int = 0, video: bool = False) -> Zoo:
    torch.manual_seed(seed)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [1]}
    config = hf.Qwen3VLMoeConfig(
        vision_config=TOWER,
        text_config={**TEXT, "head_dim": 16, "rope_parameters": ROPE, **experts},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
    )
    inputs = grid_inputs(plan, patch_width(config.vision_config), video, frame_by_frame=True)
    return Zoo(finish(hf.Qwen3VLMoeForConditionalGeneration(config)), inputs, (IMAGE, VIDEO))
