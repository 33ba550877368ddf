"""A text-only decoder, to be fed with inputs_embeds."""

from __future__ import annotations

import torch
import transformers as hf
from support.zoo.base import LAYERS, TEXT, finish


def llama(seed: int = 0, heads: int = 2, layers: int = LAYERS) -> hf.LlamaForCausalLM:
    torch.manual_seed(seed)
    text = {**TEXT, "num_key_value_heads": heads, "num_hidden_layers": layers}
    return finish(hf.LlamaForCausalLM(hf.LlamaConfig(**text)))
