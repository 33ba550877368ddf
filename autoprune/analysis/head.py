"""The model's own way from the last layer to logits, on hidden states that we made."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from autoprune.runtime.decoder import decoder_layers, find_decoder


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
    with ExitStack() as stack, torch.no_grad():
        for layer in layers:
            if "forward" in layer.__dict__:
                stack.callback(layer.__dict__.__setitem__, "forward", layer.__dict__["forward"])
            else:
                stack.callback(layer.__dict__.pop, "forward")
            layer.__dict__["forward"] = lambda *args, **kwargs: output
        logits: Tensor = model(inputs_embeds=torch.zeros_like(hidden), use_cache=False).logits
    return logits
