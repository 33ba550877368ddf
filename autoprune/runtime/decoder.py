"""Decoder layers of a model, and its marks of visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from autoprune.errors import ModelError
from autoprune.runtime.families import family_of
from autoprune.runtime.refusals import check_layer, check_model, check_structure

_VISUAL_ID_KEYS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")


def find_decoder(model: nn.Module) -> nn.Module:
    """The text model whose `.layers` are the decoder layers.

    Raises:
        ModelError: the model has no such part, or one in which pruning would not be exact.
    """
    check_model(model)
    config = getattr(model, "config", None)
    family = family_of(config)
    decoder = _own_decoder(model)
    if family.refusal is None and isinstance(decoder, nn.Module):
        check_structure(decoder)
        if isinstance(getattr(decoder, "layers", None), nn.ModuleList):
            return decoder
    wraps = isinstance(getattr(model, "module", None), nn.Module)
    raise ModelError(
        family.refusal or "has no get_decoder() with .layers",
        field="model",
        value=type(model).__name__,
        remedy="apply to the model inside the wrapper, its .module"
        if wraps
        else "use a decoder-only multimodal model of transformers, such as LlavaForConditionalGeneration",
    )


def _own_decoder(model: Any) -> Any:
    """What `get_decoder()` gives, asked again where that is a model with a head, which has a decoder of its own."""
    found = model
    while not hasattr(found, "layers") and hasattr(found, "get_decoder"):
        inner = found.get_decoder()
        if inner is found:  # Llama 4's language model takes itself for its decoder
            inner = getattr(found, "model", None)
            if inner is None:
                break
        found = inner
    return found


def decoder_layers(decoder: nn.Module) -> Sequence[nn.Module]:
    """The layers that a forward pass runs, in order.

    Raises:
        ModelError: a layer has neither causal self-attention nor a known recurrent mixer.
    """
    parts: Any = decoder
    family = family_of(parts.config)
    layers: list[nn.Module] = list(parts.layers)[: parts.config.get_text_config(decoder=True).num_hidden_layers]
    for i, layer in enumerate(layers):
        check_layer(layer, i, family)
    return layers


def attention_of(decoder: nn.Module, layer: nn.Module) -> nn.Module | None:
    """The self-attention of a decoder layer; None in a recurrent one."""
    attention: nn.Module | None = getattr(layer, family_of(decoder.config).attention, None)
    return attention


def visual_token_ids(config: Any) -> tuple[int, ...]:
    """Placeholder ids of images and videos; empty for a text-only model."""
    ids = {getattr(config, key, None) for key in _VISUAL_ID_KEYS}
    return tuple(sorted(i for i in ids if isinstance(i, int)))


def visual_mask_names(decoder: nn.Module) -> tuple[str, ...]:
    """Arguments of the text model that mark visual positions, for families without placeholder ids."""
    return family_of(decoder.config).visual_masks
