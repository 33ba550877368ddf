"""Fuyu: raw patches, no tower, before a Persimmon decoder."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, Plan, Zoo, count, finish, noise, prompts


def fuyu(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    text = {"model_type": "persimmon", **TEXT}
    config = hf.FuyuConfig(text_config=text, image_token_id=IMAGE, patch_size=4, image_size=16)
    tokens = [16, 12, 20][: count(plan)]
    inputs = {**prompts(tokens, plan), "pixel_values": noise(1, sum(tokens), 3 * 16)}
    return Zoo(finish(hf.FuyuForCausalLM(config)), inputs)
