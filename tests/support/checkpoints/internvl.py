"""InternVL: a grid of tiles by the shape of the image, and the whole image as one more."""

from __future__ import annotations

from typing import Any

import transformers as hf
from support.checkpoints.base import Checkpoint
from support.checkpoints.templates import chatml
from support.checkpoints.tokenizers import byte_level
from support.zoo.internvl import internvl

SQUARE = {"size": {"height": 16, "width": 16}}
ROLES = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def _tokenizer() -> Any:
    special = ["<|im_start|>", "<|im_end|>", *ROLES.values()]
    return byte_level(
        hf.Qwen2Tokenizer, special, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=ROLES
    )


INTERNVL = Checkpoint(
    internvl,
    _tokenizer,
    chatml("<IMG_CONTEXT>\n"),
    images={"image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": True, "max_patches": 2, **SQUARE},
    videos={"video_processor_type": "InternVLVideoProcessor", **SQUARE},
    processor={"processor_class": "InternVLProcessor", "image_seq_length": 16},
    ids={"image_token_id": "<IMG_CONTEXT>"},
)
