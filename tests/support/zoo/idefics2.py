"""Idefics2: each image resampled to a fixed number of tokens before a Mistral decoder."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, finish, noise, prompts


def idefics2(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    resampler = {
        "hidden_size": 64,
        "resampler_n_latents": 12,
        "resampler_depth": 1,
        "resampler_n_heads": 2,
        "resampler_head_dim": 16,
        "num_key_value_heads": 1,
    }
    config = hf.Idefics2Config(
        vision_config={**TOWER, "image_size": 16, "patch_size": 4},
        perceiver_config=resampler,
        text_config={"model_type": "mistral", **TEXT, "sliding_window": None},
        image_token_id=IMAGE,
    )
    most = max(map(len, plan))
    pixels = torch.zeros(len(plan), most, 3, 16, 16)  # an image of zeros is padding
    for row, images in zip(pixels, plan, strict=True):
        for place, i in enumerate(images):
            row[place] = noise(3, 16, 16, seed=i)
    batch = prompts([12] * sum(map(len, plan)), plan, before=[AFTER], after=[AFTER])
    model = hf.Idefics2ForConditionalGeneration(config)
    latents = model.model.connector.perceiver_resampler.latents
    latents.data = noise(*latents.shape)  # equal ones at first, and so would be the tokens
    return Zoo(finish(model), {**batch, "pixel_values": pixels})
