"""Tiny checkpoints with the families' own processors: a family is one spec in a file here and one row below."""

from __future__ import annotations

from support.checkpoints.internvl import INTERNVL
from support.checkpoints.llava import LLAVA, LLAVA_NEXT, LLAVA_ONEVISION
from support.checkpoints.qwen import QWEN2_5_VL, QWEN2_VL, QWEN3_VL

CHECKPOINTS = {
    "llava": LLAVA,
    "llava_next": LLAVA_NEXT,
    "llava_onevision": LLAVA_ONEVISION,
    "qwen2_vl": QWEN2_VL,
    "qwen2_5_vl": QWEN2_5_VL,
    "qwen3_vl": QWEN3_VL,
    "internvl": INTERNVL,
}
