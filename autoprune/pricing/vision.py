"""Multiply-adds of vision tower and projector from a config alone, for towers whose passes all cost the same.

Where the model and the images are at hand, `counting` says what they cost, whatever the family.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class VisionShape:
    """Multiply-adds of one image (or tile) before the decoder.

    Attributes:
        tower_macs: Patch embedding, all layers and the pooling head, where the tower has one. transformers runs all
            layers of the tower, also those after ``vision_feature_layer``, so all are priced.
        projector_macs: From the tower's features to visual tokens.
    """

    tower_macs: int
    projector_macs: int


def vision_shape(config: Any, text: Any) -> tuple[VisionShape | None, str]:
    """The vision part of a multimodal config, and a sentence on what could not be priced (empty if nothing).

    Args:
        config: The whole model's config.
        text: Its text config.
    """
    vision = getattr(config, "vision_config", None)
    if vision is None:
        return None, ""
    projector = _PROJECTORS.get(config.model_type)
    if projector is None or vision.model_type not in _TOWERS:
        return None, f"vision part ({vision.model_type} tower, {config.model_type} projector)"
    patches = (vision.image_size // vision.patch_size) ** 2
    class_token, pooling = _TOWERS[vision.model_type]
    sequence = patches + class_token
    tower = _embedding_macs(vision, patches) + vision.num_hidden_layers * _layer_macs(vision, sequence)
    if pooling and getattr(vision, "vision_use_head", True):
        tower += _pooling_macs(vision, sequence)
    return VisionShape(tower, projector(config, vision, text, sequence)), ""


def _embedding_macs(vision: Any, patches: int) -> int:
    return int(patches * vision.num_channels * vision.patch_size**2 * vision.hidden_size)


def _layer_macs(vision: Any, n: int) -> int:
    d, m = vision.hidden_size, vision.intermediate_size
    return int(4 * n * d * d + 2 * n * n * d + 2 * n * d * m)


def _pooling_macs(vision: Any, n: int) -> int:
    """One learned query attends to all n features (q and o once, k and v n times), then one plain block."""
    d, m = vision.hidden_size, vision.intermediate_size
    return int((2 + 2 * n) * d * d + 2 * n * d + 2 * d * m)


def _two_layer_mlp(config: Any, vision: Any, text: Any, n: int) -> int:
    layers = config.vision_feature_layer
    depth = 1 if isinstance(layers, int) else len(layers)
    rows = n - 1 if config.vision_feature_select_strategy == "default" else n
    return int(rows * (depth * vision.hidden_size * text.hidden_size + text.hidden_size**2))


def _one_matrix(config: Any, vision: Any, text: Any, n: int) -> int:
    return int(n * vision.hidden_size * vision.projection_dim)


def _pooled_matrix(config: Any, vision: Any, text: Any, n: int) -> int:
    side = int(config.mm_tokens_per_image**0.5)
    return int(side * side * vision.hidden_size * text.hidden_size)


# Tower: (class tokens in front of the patches, attention pooling after the last layer).
_TOWERS: dict[str, tuple[int, bool]] = {"clip_vision_model": (1, False), "siglip_vision_model": (0, True)}

_PROJECTORS: dict[str, Callable[[Any, Any, Any, int], int]] = {
    "llava": _two_layer_mlp,
    "llava_next": _two_layer_mlp,
    "llava_onevision": _two_layer_mlp,
    "paligemma": _one_matrix,
    "gemma3": _pooled_matrix,
}
