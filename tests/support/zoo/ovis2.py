"""Ovis2: an image is a mixture of rows of a visual vocabulary; indicator tokens stand around it."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def ovis2(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    tower = {**TOWER, "image_size": 16, "patch_size": 4, "vocab_size": 40, "num_visual_indicator_tokens": 2}
    config = hf.Ovis2Config(
        vision_config=tower,
        text_config={"model_type": "qwen2", **TEXT},
        image_token_id=IMAGE,
        visual_indicator_token_ids=[BEFORE, AFTER],
        vocab_size=TEXT["vocab_size"],
        hidden_size=TEXT["hidden_size"],
        tie_word_embeddings=False,
    )
    images = count(plan)
    inputs = {
        **prompts([16] * images, plan, before=[BEFORE], after=[AFTER]),
        "pixel_values": noise(images, 3, 16, 16),
    }
    return Zoo(finish(hf.Ovis2ForConditionalGeneration(config)), inputs)
