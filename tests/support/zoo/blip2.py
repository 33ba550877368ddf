"""BLIP-2 and InstructBLIP: each image in a fixed number of queries before an OPT decoder with learnt positions."""

from __future__ import annotations

from typing import Any

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts

QUERIES = 12
CONFIG: dict[str, Any] = {
    "vision_config": {**TOWER, "image_size": 16, "patch_size": 4, "initializer_range": 0.1},
    "qformer_config": {
        **TOWER,
        "encoder_hidden_size": 32,
        "vocab_size": 32,
        "cross_attention_frequency": 1,
        "initializer_range": 0.1,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "text_config": {
        "model_type": "opt",
        **TEXT,
        "ffn_dim": 96,
        "word_embed_proj_dim": 64,
        "init_std": 0.12,
        "dropout": 0.0,
    },
    "num_query_tokens": QUERIES,
}


def blip2(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Blip2Config(**CONFIG, image_token_index=IMAGE)
    images = count(plan)
    inputs = {**prompts([QUERIES] * images, plan), "pixel_values": noise(images, 3, 16, 16)}
    return _told_apart(hf.Blip2ForConditionalGeneration(config), inputs)


def instructblip(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.InstructBlipConfig(**CONFIG, image_token_index=IMAGE)
    images = count(plan)
    inputs = {
        **prompts([QUERIES] * images, plan),
        "pixel_values": noise(images, 3, 16, 16),
        "qformer_input_ids": torch.arange(4).repeat(images, 1),
    }
    return _told_apart(hf.InstructBlipForConditionalGeneration(config), inputs)


def instructblipvideo(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.InstructBlipVideoConfig(**CONFIG, video_token_index=IMAGE)
    videos, frames = count(plan), 2
    inputs = {
        **prompts([frames * QUERIES] * videos, plan),
        "pixel_values": noise(videos, frames, 3, 16, 16),
        "qformer_input_ids": torch.arange(4).repeat(videos, 1),
    }
    return _told_apart(hf.InstructBlipVideoForConditionalGeneration(config), inputs)


def _told_apart(model: Any, inputs: dict[str, torch.Tensor]) -> Zoo:
    """The queries start as zeros, and all tokens of an image would be alike."""
    model.query_tokens.data = noise(*model.query_tokens.shape)
    zoo = Zoo(finish(model), inputs)
    model.language_model.generation_config = model.generation_config  # it is the one that generates
    return zoo
