"""Whether a decoder's structure allows exact pruning: checks of what is there, not of names of models."""

from __future__ import annotations

from typing import Any

from torch import nn

from autoprune.errors import ModelError
from autoprune.runtime.families.family import Family

_KNOWN_LAYER_TYPES = {
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
    "conv",
    "mlp",
    "moe",
}
"""What a layer may keep of earlier tokens: all keys and values, those of a window, one recurrent state, or nothing."""


def check_model(model: nn.Module) -> None:
    """Refuse models that read the image through an encoder instead of having it in their sequence.

    Raises:
        ModelError: it is an encoder-decoder model.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise _refused(
            model, "the image goes into an encoder, and the decoder reads it by cross-attention", "an encoder"
        )


def check_structure(decoder: nn.Module) -> None:
    """Refuse decoders that see images by other ways than their sequence, or in which layers share what pruning cuts.

    Raises:
        ModelError: naming the part.
    """
    for name, part in decoder.named_modules():
        if _is_cross_attention(name.rpartition(".")[2], part):
            raise _refused(part, "it sees the image by cross-attention, not as tokens", "cross-attention")
    config: Any = getattr(decoder, "config", None)
    if getattr(config, "num_kv_shared_layers", 0):
        raise _refused(decoder, "layers read keys and values that an earlier, unpruned layer computed", "KV sharing")
    if hasattr(decoder, "altup_projections"):
        raise _refused(decoder, "its layers pass several hidden states at once", "alternating updates")
    unknown = sorted(set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYER_TYPES)
    if unknown:
        raise _refused(
            decoder,
            "what they read depends on more than the keys and values of the tokens that are left",
            f"layers of type {', '.join(unknown)}",
        )


def _is_cross_attention(name: str, part: nn.Module) -> bool:
    kind = type(part).__name__.lower()
    return name == "encoder_attn" or any("cross" in word and "att" in word for word in (name.lower(), kind))


def check_layer(layer: nn.Module, i: int, family: Family) -> None:
    """Refuse a layer that has neither self-attention nor a known recurrent mixer that ignores zeros.

    Raises:
        ModelError: naming the layer.
    """
    if not any(hasattr(layer, name) for name in (family.attention, *family.recurrent)):
        raise ModelError(
            f"decoder layer {i} ({type(layer).__name__}) has no {family.attention}",
            field="model",
            value=type(layer).__name__,
            remedy="add the family to autoprune/runtime/families, and check it with `autoprune doctor`",
        )
    for mixer in (getattr(layer, name) for name in family.recurrent if hasattr(layer, name)):
        entries = (part for name, part in mixer.named_children() if name.startswith("in_proj"))
        if any(getattr(entry, "bias", None) is not None for entry in entries):
            raise _refused(
                mixer,
                "padding, and what fills up a ragged batch, would leave a trace in its state",
                "biases at the entry of a recurrent layer",
            )


def _refused(part: nn.Module, why: str, what: str) -> ModelError:
    return ModelError(
        f"visual tokens cannot be pruned exactly in a decoder with {what}: {why}",
        field="model",
        value=type(part).__name__,
        remedy="use a decoder-only multimodal model without it, such as LLaVA, Qwen-VL or InternVL",
    )
