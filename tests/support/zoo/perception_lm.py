"""Perception-LM: tiles of images, frames of videos, pooled."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import CLIP, IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, count, finish, noise, prompts


def perception_lm(plan: Plan = PLAN, seed: int = 0, video: bool = False) -> Zoo:
    """Images of one tile, or videos of two frames."""
    shown, frames = count(plan), 2 if video else 1
    batch = prompts([16 * frames] * shown, plan, placeholder=VIDEO if video else IMAGE)
    pixels = {"pixel_values_videos" if video else "pixel_values": noise(shown, frames, 3, 32, 32)}
    return Zoo(_model(seed), {**batch, **pixels}, (IMAGE, VIDEO))


def _model(seed: int) -> hf.PerceptionLMForConditionalGeneration:
    torch.manual_seed(seed)
    # The tower of the published models needs timm; any that gives a class token and patches stands in for it.
    tower = hf.CLIPVisionConfig(**{**CLIP, "image_size": 32}, model_args={"embed_dim": CLIP["hidden_size"]})
    config = hf.PerceptionLMConfig(
        vision_config=tower,
        text_config={"model_type": "llama", **TEXT},
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        projector_pooling_ratio=2,
    )
    return finish(hf.PerceptionLMForConditionalGeneration(config))
