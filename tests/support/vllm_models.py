"""Tiny checkpoints of the families that vLLM serves, with heads as wide as its kernels for a CPU ask for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from support.checkpoints.llava import LLAVA_NEXT
from support.checkpoints.qwen import QWEN2_5_VL, QWEN2_VL
from support.vllm_runs import sample_of

from autoprune.data.rows import Sample

HEAD = 32
SIZES = ((40, 24), (24, 40), (32, 32))


def _wide(zoo: Callable[[], Any]) -> Callable[[], Any]:
    def made() -> Any:
        shape = zoo().model
        config = copy.deepcopy(shape.config)
        text = config.get_text_config()
        text.num_attention_heads, text.num_key_value_heads = text.hidden_size // HEAD, 1
        if hasattr(text, "head_dim"):
            text.head_dim = HEAD
        rope = getattr(text, "rope_parameters", None) or {}
        if "mrope_section" in rope:
            text.rope_parameters = {**rope, "mrope_section": [8, 4, 4]}
        return SimpleNamespace(model=type(shape)(config))

    return made


CHECKPOINTS = {
    name: replace(checkpoint, zoo=_wide(checkpoint.zoo))
    for name, checkpoint in {"llava_next": LLAVA_NEXT, "qwen2_5_vl": QWEN2_5_VL, "qwen2_vl": QWEN2_VL}.items()
}


def samples_of(family: str, folder: Path, count: int, images: int = 1) -> list[Sample]:
    """Questions after random images of several sizes."""
    generator = np.random.default_rng(0)
    made = []
    for i in range(count):
        files = [folder / f"{family}-{i}-{k}-of-{images}.png" for k in range(images)]
        for k, file in enumerate(files):
            width, height = SIZES[(i + k) % len(SIZES)]
            Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file)
        words = generator.choice(["red", "green", "blue", "left", "dots", "number"], 2 + i % 3)
        made.append(sample_of(str(i), f"what {' '.join(words)}", files))
    return made
