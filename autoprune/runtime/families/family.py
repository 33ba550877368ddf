"""What the runtime has to know of a model family: where things are, never how the model computes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """The layout of one family.

    The first three are looked up by the model type of the text model, the others by that of the whole model.

    Attributes:
        attention: Name of the self-attention in a decoder layer.
        recurrent: Names of the modules that some layers have instead of attention; they read the sequence in order.
        visual_masks: Names of the text model's arguments that mark visual positions, where no id does.
        refusal: Why pruning cannot be exact, where no structural check can tell.
    """

    attention: str = "self_attn"
    recurrent: tuple[str, ...] = ()
    visual_masks: tuple[str, ...] = ()
    refusal: str | None = None


USUAL = Family()
"""The layout of Llama, which most decoders share."""
