"""Mistral 4: keys and values from a latent vector, queries scaled by position; behind the tower of Mistral 3."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import IMAGE, PLAN, TEXT, TOWER, Plan, Zoo, count, finish, noise, prompts
from support.zoo.kimi_k25 import EXPERTS, LATENT


def mistral4(plan: Plan = PLAN, seed: int = 0) -> Zoo:
    torch.manual_seed(seed)
    rope = {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,  # shorter than the prompt, so that the scale of queries changes
        "llama_4_scaling_beta": 0.1,
    }
    text = {"model_type": "mistral4", **TEXT, **LATENT, **EXPERTS, "n_shared_experts": 1, "rope_parameters": rope}
    config = hf.Mistral3Config(
        vision_config={"model_type": "pixtral", **TOWER, "head_dim": 16, "image_size": 32, "patch_size": 4},
        text_config=text,
        image_token_index=IMAGE,
        spatial_merge_size=2,
        vision_feature_layer=-1,
    )
    sizes = torch.tensor([[32, 32], [16, 32], [32, 16]])[: count(plan)]
    batch = prompts((sizes // 8).prod(1).tolist(), plan)
    inputs = {**batch, "pixel_values": noise(count(plan), 3, 32, 32), "image_sizes": sizes}
    return Zoo(finish(hf.Mistral3ForConditionalGeneration(config)), inputs)
