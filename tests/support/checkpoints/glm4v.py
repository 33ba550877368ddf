"""GLM-4V: images at their own size, between marks."""

from __future__ import annotations

from typing import Any

from support.checkpoints.base import Checkpoint
from support.checkpoints.templates import tagged
from support.checkpoints.tokenizers import byte_level
from support.zoo.glm4v import glm4v

SIZES = {"patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
PIXELS = {"size": {"shortest_edge": 2 * 16 * 16, "longest_edge": 2 * 32 * 32}}
IDS = {
    "image_token_id": "<|image|>",
    "video_token_id": "<|video|>",
    "image_start_token_id": "<|begin_of_image|>",
    "image_end_token_id": "<|end_of_image|>",
    "video_start_token_id": "<|begin_of_video|>",
    "video_end_token_id": "<|end_of_video|>",
}


def _tokenizer() -> Any:
    special = ["<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>", *IDS.values()]
    return byte_level(None, special, eos_token="<|user|>", pad_token="<|endoftext|>")


GLM4V = Checkpoint(
    glm4v,
    _tokenizer,
    tagged("<|begin_of_image|><|image|><|end_of_image|>"),
    images={"image_processor_type": "Glm4vImageProcessor", **SIZES, **PIXELS},
    videos={"video_processor_type": "Glm4vVideoProcessor", **SIZES, **PIXELS},
    processor={"processor_class": "Glm4vProcessor"},
    ids=IDS,
)
