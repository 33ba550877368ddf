"""Whether a decoder's structure allows exact pruning: checks of what is there, not of names of models."""

from __future__ import annotations

from typing import Any

from torch import nn

from autoprune.errors import ModelError
from autoprune.runtime.families.family import Family

_CROSS_ATTENTION = ("cross_attn", "crossattention", "encoder_attn")


def check_structure(decoder: nn.Module) -> None:
    """Refuse decoders in which layers share what pruning cuts.

    Raises:
        ModelError: naming the part.
    """
    config: Any = getattr(decoder, "config", None)
    if getattr(config, "num_kv_shared_layers", 0):
        raise _refused(decoder, "layers read keys and values that an earlier, unpruned layer computed", "KV sharing")
    if hasattr(decoder, "altup_projections"):
        raise _refused(decoder, "its layers pass several hidden states at once", "alternating updates")


def check_layer(layer: nn.Module, i: int, family: Family) -> None:
    """Refuse a layer that is not a norm followed by self-attention or a known recurrent mixer.

    Raises:
        ModelError: naming the layer.
    """
    if any(hasattr(layer, name) for name in _CROSS_ATTENTION):
        raise _refused(layer, f"decoder layer {i} sees the image by cross-attention, not as tokens", "cross-attention")
    if any(hasattr(layer, name) for name in family.recurrent):
        return
    if not hasattr(layer, family.attention) or not hasattr(layer, family.norm):
        raise ModelError(
            f"decoder layer {i} ({type(layer).__name__}) has no {family.norm} and {family.attention}",
            field="model",
            value=type(layer).__name__,
            remedy="add the family to autoprune/runtime/families, and check it with `autoprune doctor`",
        )


def _refused(part: nn.Module, why: str, what: str) -> ModelError:
    return ModelError(
        f"visual tokens cannot be pruned exactly in a decoder with {what}: {why}",
        field="model",
        value=type(part).__name__,
        remedy="use a decoder-only multimodal model without it, such as LLaVA, Qwen-VL or InternVL",
    )
