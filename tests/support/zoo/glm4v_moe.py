"""GLM-4.5V and GLM-4.6V: as GLM-4V, with experts behind a dense first layer, or dense."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.glm4v import ROPE, TOWER
from support.zoo.grids import grid_inputs

EXPERTS = {
    "moe_intermediate_size": 32,
    "num_experts_per_tok": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}


def glm4v_moe(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    text = {**TEXT, **EXPERTS, "head_dim": 16, "rope_parameters": ROPE}
    return _build(hf.Glm4vMoeConfig, hf.Glm4vMoeForConditionalGeneration, TOWER, text, plan, seed)


def glm46v(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    text = {"model_type": "glm4v_text", **TEXT, "head_dim": 16, "rope_parameters": ROPE}
    tower = {"model_type": "glm4v_vision", **TOWER}
    return _build(hf.Glm46VConfig, hf.Glm46VForConditionalGeneration, tower, text, plan, seed)


def _build(
    config_class: Any, model_class: Any, tower: dict[str, Any], text: dict[str, Any], plan: Plan, seed: int
) -> Zoo:
    torch.manual_seed(seed)
    config = config_class(
        vision_config=tower,
        text_config=text,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        image_start_token_id=BEFORE,
        image_end_token_id=AFTER,
        video_start_token_id=9,
        video_end_token_id=3,
    )
    inputs = grid_inputs(plan, 3 * 2 * 4**2)
    return Zoo(finish(model_class(config)), inputs, (IMAGE, VIDEO))
