"""LFM2-VL: short convolutions in most layers, images of any size."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts


def lfm2_vl(plan: Plan = PLAN, seed: int = 0, biased: bool = False) -> Zoo:
    """A batch with images.

    Args:
        plan: Images of each sample.
        seed: Of the weights.
        biased: Whether the convolutions and their projections have biases.
    """
    torch.manual_seed(seed)
    text = {
        "model_type": "lfm2",
        **TEXT,
        "block_auto_adjust_ff_dim": False,
        "conv_bias": biased,
        "layer_types": ["conv", "full_attention", "conv", "conv", "full_attention", "conv"],
    }
    tower = {"model_type": "siglip2_vision_model", **TOWER, "patch_size": 4, "num_patches": 16}
    config = hf.Lfm2VlConfig(
        vision_config=tower,
        text_config=text,
        image_token_id=IMAGE,
        projector_hidden_size=48,
        tie_word_embeddings=False,
    )
    shapes = torch.tensor([[8, 6], [4, 8], [6, 4]])[: count(plan)]
    patches = shapes.prod(1)
    inputs = {
        **prompts((patches // 4).tolist(), plan),
        "pixel_values": noise(count(plan), int(patches.max()), 3 * 16),
        "spatial_shapes": shapes,
        "pixel_attention_mask": (torch.arange(int(patches.max())) < patches[:, None]).long(),
    }
    return Zoo(finish(hf.Lfm2VlForConditionalGeneration(config)), inputs)
