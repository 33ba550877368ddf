"""LFM3-VL: short convolutions in most layers, gated attention with (here long) windows in some of the others."""

from __future__ import annotations

from functools import partial

import torch
import transformers as hf
from support.zoo.base import AFTER, BEFORE, IMAGE, PLAN, TEXT, TOWER, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs


def lfm3_vl(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    rope = {"rope_type": "default", "rope_theta": 10000.0}
    text = {
        "model_type": "lfm3",
        **TEXT,
        "head_dim": 16,
        "conv_L_cache": 3,
        "layer_types": ["conv", "full_attention", "conv", "conv", "sliding_attention", "conv"],
        "sliding_window": 64,
        "rope_parameters": {"full_attention": rope, "sliding_attention": rope},
    }
    tower = {
        **TOWER,
        "num_key_value_heads": 1,
        "patch_size": 4,
        "layer_types": ["conv", "full_attention"],
    }
    config = hf.Lfm3VlConfig(
        vision_config=tower,
        text_config=text,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEFORE,
        vision_end_token_id=AFTER,
        projector_hidden_size=48,
        tie_word_embeddings=False,
    )
    inputs = grid_inputs(plan, 96)
    del inputs["mm_token_type_ids"]
    model = finish(hf.Lfm3VlForConditionalGeneration(config))
    rotary = model.get_decoder().rotary_emb
    rotary.forward = partial(rotary.forward, layer_type="full_attention")  # of both kinds of attention the same
    return Zoo(model, inputs)
