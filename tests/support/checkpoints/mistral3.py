"""Mistral 3: images at their own size, with a mark after each row of patches."""

from __future__ import annotations

from typing import Any

from support.checkpoints.base import Checkpoint
from support.checkpoints.templates import instructed
from support.checkpoints.tokenizers import byte_level
from support.zoo.mistral3 import mistral3

PATCH = {"height": 4, "width": 4}


def _tokenizer() -> Any:
    special = ["<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    roles = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return byte_level(None, special, **roles)


MISTRAL3 = Checkpoint(
    mistral3,
    _tokenizer,
    instructed("[IMG]"),
    images={"image_processor_type": "PixtralImageProcessor", "size": {"longest_edge": 32}, "patch_size": PATCH},
    processor={"processor_class": "PixtralProcessor", "patch_size": 4, "spatial_merge_size": 2},
    ids={"image_token_index": "[IMG]"},
)
