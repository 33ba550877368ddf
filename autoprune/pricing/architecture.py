"""Shapes of a model, read from its transformers config, as far as a price needs them.

Only families whose structure is written down here are priced; their figures are checked against an operation counter.
An unknown decoder is refused; an unknown vision tower, named in `Architecture.unpriced`, has no price end to end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.pricing.layers import LayerShape, layer_shapes
from autoprune.pricing.vision import VisionShape, vision_shape

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


@dataclass(frozen=True)
class Architecture:
    """Shapes of the parts of a model that have a price.

    Attributes:
        layers: The decoder layers, first to last.
        head_macs: The head on one row.
        vision: Tower and projector, or None.
        unpriced: What part of the model has no price here; empty if none.
        is_whole: Whether layers, head and vision part are all that it computes. A decoder that also makes an input for
            each layer out of the embeddings has no price end to end.
        dtype_bytes: Bytes of one number in the config's dtype, or None if the config names none.
    """

    layers: tuple[LayerShape, ...]
    head_macs: int
    vision: VisionShape | None = None
    unpriced: str = ""
    dtype_bytes: int | None = None
    is_whole: bool = True

    def vision_flops(self, passes: int) -> int | None:
        """FLOPs of tower and projector in some passes; None if they have no price."""
        if passes and self.unpriced:
            return None
        return 2 * passes * (self.vision.tower_macs + self.vision.projector_macs) if self.vision else 0

    @classmethod
    def from_config(cls, config: PreTrainedConfig) -> Architecture:
        """Shapes of a text-only or multimodal model.

        Raises:
            ModelError: The decoder is of a family whose structure is not known here.
        """
        text = config.get_text_config(decoder=True)
        layers = layer_shapes(text)
        vision, unpriced = vision_shape(config, text)
        dtype = getattr(text, "dtype", None) or getattr(config, "dtype", None)
        is_whole = not getattr(text, "hidden_size_per_layer_input", None)
        head = text.hidden_size * text.vocab_size
        return cls(layers, head, vision, unpriced, getattr(dtype, "itemsize", None), is_whole)
