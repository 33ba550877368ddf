"""Qianfan-OCR: tiles of pixel-shuffled patches before a Qwen3 decoder."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def qianfan_ocr(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.QianfanOCRConfig(
        vision_config={**TOWER, "image_size": [16, 16], "patch_size": [2, 2], "drop_path_rate": 0.0},
        text_config={"model_type": "qwen3", **TEXT, "head_dim": 16},
        image_token_id=IMAGE,
        image_seq_length=16,
    )
    images = count(plan)
    inputs = {**prompts([16] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return Zoo(finish(hf.QianfanOCRForConditionalGeneration(config)), inputs)
