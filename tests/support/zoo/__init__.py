"""Tiny random models built from configs, with a ragged, left-padded, multi-image batch for each.

A family is one file here and one row (for each kind of input) below.
"""

from __future__ import annotations

from functools import partial

from support.versions import needs
from support.zoo.base import IMAGE, LAYERS, PAD, VIDEO, VOCAB, WORDS, Plan, Row, Zoo
from support.zoo.gemma3 import gemma3
from support.zoo.glm4v import glm4v
from support.zoo.idefics3 import idefics3, smolvlm
from support.zoo.internvl import internvl
from support.zoo.llama import llama
from support.zoo.llava import llava
from support.zoo.llava_next import llava_next
from support.zoo.llava_next_video import llava_next_video
from support.zoo.llava_onevision import llava_onevision
from support.zoo.mistral3 import mistral3
from support.zoo.paligemma import paligemma
from support.zoo.qwen2_5_vl import qwen2_5_vl
from support.zoo.qwen2_vl import qwen2_vl
from support.zoo.qwen3_vl import qwen3_vl
from support.zoo.video_llava import video_llava
from support.zoo.vipllava import vipllava

FAMILIES = {
    "gemma3": Row(gemma3, core=True, modes=True),
    "glm4v": Row(glm4v, modes=True),
    "idefics3": Row(idefics3, modes=True),
    "internvl": Row(internvl, core=True, modes=True),
    "llava": Row(llava, core=True, modes=True),
    "llava_next": Row(llava_next, modes=True),
    "llava_next_video": Row(llava_next_video, inputs="video", modes=True),
    "llava_onevision": Row(llava_onevision, modes=True),
    "llava_onevision_video": Row(partial(llava_onevision, video=True), inputs="video", modes=True),
    "mistral3": Row(mistral3, modes=True),
    "paligemma": Row(
        paligemma,
        modes=True,
        without={"no cache": needs("5.23", "without a cache PaliGemma takes what it generates for prompt")},
    ),
    "qwen2_5_vl": Row(qwen2_5_vl, core=True, modes=True),
    "qwen2_5_vl_video": Row(partial(qwen2_5_vl, video=True), inputs="video", modes=True),
    "qwen2_vl": Row(qwen2_vl, modes=True),
    "qwen2_vl_video": Row(partial(qwen2_vl, video=True), inputs="video", modes=True),
    "qwen3_vl": Row(qwen3_vl, core=True, modes=True),
    "qwen3_vl_video": Row(partial(qwen3_vl, video=True), inputs="video", modes=True),
    "smolvlm": Row(smolvlm, modes=True),
    "video_llava": Row(video_llava, inputs="video", modes=True),
    "vipllava": Row(vipllava, modes=True),
}
CORE = {name: row for name, row in FAMILIES.items() if row.core}

__all__ = [
    "CORE",
    "FAMILIES",
    "IMAGE",
    "LAYERS",
    "PAD",
    "VIDEO",
    "VOCAB",
    "WORDS",
    "Plan",
    "Row",
    "Zoo",
    "gemma3",
    "internvl",
    "llama",
    "llava",
    "qwen2_5_vl",
]
