"""MiniCPM-V 4.6 and 4.7, MiniCPM-OCR: sixteen (four) patches merged into a token before a Qwen3.5 decoder."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TOWER, VIDEO, Plan, Zoo, count, finish, noise, prompts
from support.zoo.qwen3_5 import HYBRID


def minicpmv4_6(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    return _zoo(hf.MiniCPMV4_6ForConditionalGeneration(hf.MiniCPMV4_6Config(**_settings())), plan, 16)


def minicpmv4_7(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    marks = {"image_start_id": BEFORE, "image_end_id": AFTER, "slice_start_id": 2, "slice_end_id": 3, "newline_id": 9}
    zoo = _zoo(hf.MiniCPMV4_7ForConditionalGeneration(hf.MiniCPMV4_7Config(**_settings(), **marks)), plan, 16)
    zoo.inputs["mm_token_type_ids"] = zoo.visual.int()
    return zoo


def minicpm_ocr(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    return _zoo(hf.MiniCPMOcrForConditionalGeneration(hf.MiniCPMOcrConfig(**_settings())), plan, 4)


def _settings() -> dict[str, Any]:
    return {
        "text_config": {"model_type": "qwen3_5_text", **HYBRID},
        "vision_config": {**TOWER, "image_size": 64, "patch_size": 4, "insert_layer_id": 0},
        "insert_layer_id": 0,
        "image_token_id": IMAGE,
        "video_token_id": VIDEO,
    }


def _zoo(model: Any, plan: Plan, merged: int) -> Zoo:
    sizes = torch.tensor([[16, 16], [8, 16], [16, 8]])[: count(plan)] // (2 if merged == 4 else 1)
    inputs = {
        **prompts((sizes.prod(1) // merged).tolist(), plan, before=[BEFORE], after=[AFTER]),
        "pixel_values": noise(1, 3, 4, 4 * int(sizes.prod(1).sum())),
        "target_sizes": sizes.int(),
    }
    return Zoo(finish(model), inputs)
