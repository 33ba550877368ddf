"""Tiny random models built from configs, with a ragged, left-padded, multi-image batch for each.

A family is one file here and one row (for each kind of input) below.
"""

from __future__ import annotations

from support.zoo.base import IMAGE, PAD, VIDEO, VOCAB, Plan, Row, Zoo
from support.zoo.gemma3 import gemma3
from support.zoo.internvl import internvl
from support.zoo.llama import llama
from support.zoo.llava import llava
from support.zoo.qwen2_5_vl import qwen2_5_vl

FAMILIES = {
    "gemma3": Row(gemma3, core=True),
    "internvl": Row(internvl, core=True),
    "llava": Row(llava, core=True),
    "qwen2_5_vl": Row(qwen2_5_vl, core=True),
}
CORE = {name: row for name, row in FAMILIES.items() if row.core}

__all__ = [
    "CORE",
    "FAMILIES",
    "IMAGE",
    "PAD",
    "VIDEO",
    "VOCAB",
    "Plan",
    "Row",
    "Zoo",
    "gemma3",
    "internvl",
    "llama",
    "llava",
    "qwen2_5_vl",
]
