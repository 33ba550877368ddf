"""Mllama: the decoder sees the image by cross-attention, not as tokens."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, LAYERS, TEXT, TOWER


def mllama(seed: int = 0) -> hf.MllamaForConditionalGeneration:
    torch.manual_seed(seed)
    tower = {k: v for k, v in TOWER.items() if k != "num_attention_heads"}
    config = hf.MllamaConfig(
        vision_config={
            **tower,
            "attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
            "vision_output_dim": 64,
            "num_global_layers": 1,
            "intermediate_layers_indices": [0],
        },
        text_config={**TEXT, "num_hidden_layers": LAYERS, "cross_attention_layers": [1, 3]},
        image_token_index=IMAGE,
    )
    return hf.MllamaForConditionalGeneration(config).float().eval()
