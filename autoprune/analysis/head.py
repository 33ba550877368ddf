"""The model's own way from the last layer to logits, on hidden states that we made."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.replay import recorded_outputs


def head_logits(model: nn.Module, hidden: Tensor, as_tuple: bool) -> Tensor:
    """Logits of hidden states [B, T, d] that left the last layer: FloatTensor[B, T, V].

    The model runs with its layers short-circuited, so that norms, scalings and soft caps of any family apply.

    Args:
        model: The model.
        hidden: What left the last layer.
        as_tuple: Whether the layers of this model wrap what they give in a tuple.
    """
    layers = decoder_layers(find_decoder(model))
    output = (hidden,) if as_tuple else hidden
    with torch.no_grad(), recorded_outputs((layer, output) for layer in layers):
        logits: Tensor = model(inputs_embeds=torch.zeros_like(hidden), use_cache=False).logits
    return logits
