"""Muse Glimmer and Muse Spark: gated attention, sliding windows, full layers without positions."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs

WINDOWS = {
    "head_dim": 16,
    "sliding_window": 24,
    "layer_types": ["sliding_attention", "full_attention"] * 3,
    "layer_rope_theta": [10000.0, 0] * 3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
EYE = {
    **TOWER,
    "patch_size": 4,
    "pos_emb_height": 8,
    "pos_emb_width": 8,
    "layer_types": ["window_attention", "full_attention"],
}
IDS = {"image_token_id": IMAGE, "video_token_id": VIDEO, "out_hidden_size": 128, "projector_hidden_size": 64}


def muse_glimmer(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.MuseGlimmerConfig(text_config={**TEXT, **WINDOWS}, vision_config=EYE, **IDS)
    inputs = grid_inputs(plan, 96)
    del inputs["mm_token_type_ids"]
    return Zoo(finish(hf.MuseGlimmerForConditionalGeneration(config)), inputs)


def muse_spark(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    experts = {
        "moe_intermediate_size": 32,
        "moe_hidden_size": 32,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "mlp_layer_types": ["dense"] + ["sparse"] * 5,
    }
    ear = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "out_hidden_size": 64}
    config = hf.MuseSparkConfig(
        text_config={**TEXT, **WINDOWS, **experts}, vision_config=EYE, audio_config=ear, audio_token_id=4, **IDS
    )
    inputs = grid_inputs(plan, 96)
    del inputs["mm_token_type_ids"]
    return Zoo(finish(hf.MuseSparkForConditionalGeneration(config)), inputs)
