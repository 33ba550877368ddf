"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: images at their own size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf
from support.checkpoints.base import Checkpoint
from support.checkpoints.templates import chatml
from support.checkpoints.tokenizers import byte_level
from support.zoo.qwen2_5_vl import qwen2_5_vl
from support.zoo.qwen2_vl import qwen2_vl
from support.zoo.qwen3_vl import qwen3_vl

PATCHES = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
PIXELS = {"size": {"shortest_edge": 16 * 16, "longest_edge": 32 * 32}}
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
IDS = {
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
}


def _tokenizer() -> Any:
    return byte_level(hf.Qwen2Tokenizer, SPECIAL, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def _checkpoint(zoo: Callable[[], Any], processor: str, videos: str) -> Checkpoint:
    return Checkpoint(
        zoo,
        _tokenizer,
        chatml("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"),
        images={"image_processor_type": "Qwen2VLImageProcessor", **PATCHES, **PIXELS},
        videos={"video_processor_type": videos, **PATCHES, **PIXELS},
        processor={"processor_class": processor},
        ids=IDS,
    )


QWEN2_VL = _checkpoint(qwen2_vl, "Qwen2VLProcessor", "Qwen2VLVideoProcessor")
QWEN2_5_VL = _checkpoint(qwen2_5_vl, "Qwen2_5_VLProcessor", "Qwen2VLVideoProcessor")
QWEN3_VL = _checkpoint(qwen3_vl, "Qwen3VLProcessor", "Qwen3VLVideoProcessor")
