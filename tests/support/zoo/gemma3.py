"""Gemma 3: sliding windows, and image blocks that see both ways."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, SIGLIP, TEXT, Plan, Zoo, count, finish, noise, prompts


def gemma3(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    """Sliding windows shorter than the prompt, and image blocks that see both ways."""
    torch.manual_seed(seed)
    text = {
        **TEXT,
        "head_dim": 16,
        "sliding_window": 24,
        "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2,
        "initializer_range": 0.1,
        "tie_word_embeddings": True,
    }
    config = hf.Gemma3Config(
        vision_config=SIGLIP,
        text_config=text,
        image_token_id=IMAGE,
        mm_tokens_per_image=16,
        boi_token_index=BEFORE,
        eoi_token_index=AFTER,
        tie_word_embeddings=True,
    )
    images = count(plan)
    batch = prompts([16] * images, plan, before=[BEFORE], after=[AFTER])
    inputs = {
        **batch,
        "pixel_values": noise(images, 3, 16, 16),
        "token_type_ids": (batch["input_ids"] == IMAGE).int(),
    }
    return Zoo(finish(hf.Gemma3ForConditionalGeneration(config)), inputs)
