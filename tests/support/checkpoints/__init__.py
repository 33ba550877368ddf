"""Tiny checkpoints with the families' own processors: a family is one spec in a file here and one row below."""

from __future__ import annotations

from support.checkpoints.gemma import GEMMA3, PALIGEMMA
from support.checkpoints.glm4v import GLM4V
from support.checkpoints.idefics3 import IDEFICS3, SMOLVLM
from support.checkpoints.internvl import INTERNVL
from support.checkpoints.llava import LLAVA, LLAVA_NEXT, LLAVA_ONEVISION
from support.checkpoints.mistral3 import MISTRAL3
from support.checkpoints.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL

CHECKPOINTS = {
    "llava": LLAVA,
    "llava_next": LLAVA_NEXT,
    "llava_onevision": LLAVA_ONEVISION,
    "qwen2_vl": QWEN2_VL,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen3_vl": QWEN3_VL,
    "internvl": INTERNVL,
    "idefics3": IDEFICS3,
    "smolvlm": SMOLVLM,
    "gemma3": GEMMA3,
    "paligemma": PALIGEMMA,
    "mistral3": MISTRAL3,
    "glm4v": GLM4V,
}
