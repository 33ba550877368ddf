"""Model families whose decoders are laid out differently from the usual one.

A family with the usual layout needs no entry; another one needs one row in the table. A row says where things are,
never how the model computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
_KOSMOS2 = Family(visual_masks=("image_embeds_position_mask",))
_LFM2 = Family(recurrent=("conv",))
_QWEN3_5 = Family(recurrent=("linear_attn",))


FAMILIES: dict[str, Family] = {
    "diffusion_gemma": Family(refusal="writes its answer by block diffusion, not token by token after one prefill"),
    "kosmos_2_5_text_model": _KOSMOS2,
    "kosmos_2_text_model": _KOSMOS2,
    "lfm2": _LFM2,
    "lfm3": _LFM2,
    "qwen3_5_moe_text": _QWEN3_5,
    "qwen3_5_text": _QWEN3_5,
}
"""By `config.model_type`, of the text model for its layers, of the whole model for the rest."""


def family_of(config: Any) -> Family:
    """The family of a model, or of a text model, with this config; the usual one if the table has none."""
    return FAMILIES.get(getattr(config, "model_type", ""), USUAL)
