"""The table of families whose decoders are laid out differently from the usual one.

A family that needs an entry is one file here and one row below; one that has the usual layout needs neither.
"""

from __future__ import annotations

from typing import Any

from autoprune.runtime.families.diffusion_gemma import DIFFUSION_GEMMA
from autoprune.runtime.families.family import USUAL, Family
from autoprune.runtime.families.kosmos2 import KOSMOS2
from autoprune.runtime.families.lfm2 import LFM2
from autoprune.runtime.families.qwen3_5 import QWEN3_5

FAMILIES: dict[str, Family] = {
    "diffusion_gemma": DIFFUSION_GEMMA,
    "kosmos_2_5_text_model": KOSMOS2,
    "kosmos_2_text_model": KOSMOS2,
    "lfm2": LFM2,
    "lfm3": LFM2,
    "qwen3_5_moe_text": QWEN3_5,
    "qwen3_5_text": QWEN3_5,
}
"""By `config.model_type`, of the text model for its layers, of the whole model for the rest."""


def family_of(config: Any) -> Family:
    """The family of a model, or of a text model, with this config; the usual one if the table has none."""
    return FAMILIES.get(getattr(config, "model_type", ""), USUAL)
