"""Where a model keeps its decoder layers, and how it marks visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from autoprune.errors import ModelError

_VISUAL_ID_KEYS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
_SUPPORTED_ATTENTION = ("eager", "sdpa")


def find_decoder(model: nn.Module) -> nn.Module:
    """The text model whose `.layers` are the decoder layers.

    Raises:
        ModelError: the model has no such part, so that visual tokens cannot be pruned in it.
    """
    getter: Any = getattr(model, "get_decoder", None)
    decoder = getter() if getter else None
    if isinstance(decoder, nn.Module) and isinstance(getattr(decoder, "layers", None), nn.ModuleList):
        return decoder
    raise ModelError(
        "has no get_decoder() with .layers",
        field="model",
        value=type(model).__name__,
        remedy="use a decoder-only multimodal model of transformers, such as LlavaForConditionalGeneration",
    )


def decoder_layers(decoder: nn.Module) -> Sequence[nn.Module]:
    """The layers that a forward pass runs, in order.

    Raises:
        ModelError: a layer is not a norm followed by self-attention, which pruning relies on.
    """
    parts: Any = decoder
    layers: list[nn.Module] = list(parts.layers)[: parts.config.num_hidden_layers]
    for i, layer in enumerate(layers):
        if not hasattr(layer, "self_attn") or not hasattr(layer, "input_layernorm"):
            raise ModelError(
                f"decoder layer {i} ({type(layer).__name__}) has no input_layernorm and self_attn",
                field="model",
                value=type(decoder).__name__,
                remedy="pruning is exact in attention layers only; this architecture is not supported",
            )
    return layers


def check_attention(decoder: nn.Module) -> None:
    """Refuse attention implementations whose masks cannot express pruned layers.

    Raises:
        ModelError: the decoder runs something else than eager or sdpa attention.
    """
    implementation = decoder.config._attn_implementation  # type: ignore[union-attr]
    if implementation not in _SUPPORTED_ATTENTION:
        raise ModelError(
            "pruning is proven exact with eager and sdpa attention only",
            field="attn_implementation",
            value=implementation,
            remedy='call model.set_attn_implementation("sdpa")',
        )


def visual_token_ids(config: Any) -> tuple[int, ...]:
    """Placeholder ids of images and videos; empty for a text-only model."""
    ids = {getattr(config, key, None) for key in _VISUAL_ID_KEYS}
    return tuple(sorted(i for i in ids if isinstance(i, int)))
