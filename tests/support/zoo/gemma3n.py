"""Gemma 3n: several hidden states at once, and keys and values shared between layers."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import TEXT, VOCAB


def gemma3n(seed: int = 0, shared: int = 2) -> hf.Gemma3nForCausalLM:
    """The text model; the tower needs a library that is not here."""
    torch.manual_seed(seed)
    text = {
        **TEXT,
        "head_dim": 16,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCAB,
        "num_kv_shared_layers": shared,
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "laurel_rank": 8,
    }
    return hf.Gemma3nForCausalLM(hf.Gemma3nTextConfig(**text)).float().eval()
