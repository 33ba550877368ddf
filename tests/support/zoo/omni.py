"""Thinkers of Qwen2.5-Omni and Qwen3-Omni: given images here; what they hear is not visual."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, VIDEO, Plan, Zoo, finish
from support.zoo.grids import grid_inputs

EAR = {
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": 32,
    "output_dim": 64,
    "num_mel_bins": 16,
}
EYE = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 64,
    "intermediate_size": 48,
    "num_heads": 2,
    "patch_size": 4,
}
ROPE = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}


def qwen2_5_omni(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    config = hf.Qwen2_5OmniThinkerConfig(
        audio_config=EAR,
        vision_config={**EYE, "window_size": 16, "fullatt_block_indexes": [1]},
        text_config={**TEXT, "rope_parameters": ROPE},
        audio_token_index=4,
        image_token_index=IMAGE,
        video_token_index=VIDEO,
    )
    config.vision_start_token_id, config.audio_start_token_id = 7, 3
    inputs = grid_inputs(plan, 96)
    del inputs["mm_token_type_ids"]
    return Zoo(finish(hf.Qwen2_5OmniThinkerForConditionalGeneration(config)), inputs)


def qwen3_omni(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    config = hf.Qwen3OmniMoeThinkerConfig(
        audio_config={**EAR, "downsample_hidden_size": 8},
        vision_config={**EYE, "depth": 3, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1, 2]},
        text_config={**TEXT, "head_dim": 16, "rope_parameters": ROPE, **experts},
        audio_token_id=4,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
    )
    config.vision_start_token_id, config.audio_start_token_id = 7, 3
    inputs = grid_inputs(plan, 96)
    del inputs["mm_token_type_ids"]
    return Zoo(finish(hf.Qwen3OmniMoeThinkerForConditionalGeneration(config)), inputs)
