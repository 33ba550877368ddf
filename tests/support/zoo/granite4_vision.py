"""Granite 4 Vision: tiles of any resolution; features of the tower are added before several decoder layers."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import CLIP, IMAGE, PLAN, TEXT, Plan, Zoo, count, finish, noise, prompts


def granite4_vision(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    resampler = {
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "vocab_size": 8,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    config = hf.Granite4VisionConfig(
        vision_config={**CLIP, "hidden_size": 64, "patch_size": 2},
        text_config={**TEXT, "attention_multiplier": 0.25},
        image_token_index=IMAGE,
        image_grid_pinpoints=[[16, 16]],
        downsample_rate="1/2",
        deepstack_layer_map=[[1, 0], [-1, 2]],
        spatial_target_layers=[1, 3, 4, 5],
        projector_dropout=0.0,
        qformer_config=resampler,
    )
    sizes = torch.tensor([[16, 16], [8, 16], [16, 8]])[: count(plan)]
    tokens = [36, 26, 28][: count(plan)]  # the whole image, then one tile without its padding, each row with a newline
    inputs = {**prompts(tokens, plan), "pixel_values": noise(len(tokens), 2, 3, 16, 16), "image_sizes": sizes}
    return Zoo(finish(hf.Granite4VisionForConditionalGeneration(config)), inputs)
