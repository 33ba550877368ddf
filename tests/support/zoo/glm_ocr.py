"""GLM-OCR and GLM-GA: as GLM-4V."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.glm4v import ROPE, TOWER
from support.zoo.grids import grid_inputs

IDS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "image_start_token_id": BEFORE,
    "image_end_token_id": AFTER,
    "video_start_token_id": 9,
    "video_end_token_id": 3,
}


def glm_ocr(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    text: dict[str, Any] = {**TEXT, "head_dim": 16, "rope_parameters": ROPE}
    config = hf.GlmOcrConfig(text_config=text, vision_config=TOWER, **IDS)
    return Zoo(finish(hf.GlmOcrForConditionalGeneration(config)), grid_inputs(plan, 96))


def glmga(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    text = {"model_type": "glm4v_text", **TEXT, "head_dim": 16, "rope_parameters": ROPE}
    config = hf.GlmgaConfig(text_config=text, vision_config={"model_type": "glm4v_vision", **TOWER}, **IDS)
    return Zoo(finish(hf.Glm46VForConditionalGeneration(config)), grid_inputs(plan, 96))
