"""Gemma 3 and PaliGemma: one square of a fixed number of tokens; PaliGemma has no chat template."""

from __future__ import annotations

from typing import Any

import transformers as hf
from support.checkpoints.base import Checkpoint
from support.checkpoints.templates import turns
from support.checkpoints.tokenizers import byte_fallback
from support.zoo.gemma3 import gemma3
from support.zoo.paligemma import paligemma

SQUARE = {"height": 16, "width": 16}
FIRST = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
ROLES = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}


def _gemma3() -> Any:
    special = ["<start_of_turn>", "<end_of_turn>", *ROLES.values()]
    return byte_fallback(hf.GemmaTokenizer, FIRST, special, extra_special_tokens=ROLES)


def _paligemma() -> Any:
    tokenizer = byte_fallback(hf.GemmaTokenizer, FIRST, ["<image>"])
    tokenizer.add_tokens([*(f"<loc{i:04}>" for i in range(1024)), *(f"<seg{i:03}>" for i in range(128))])
    return tokenizer


GEMMA3 = Checkpoint(
    gemma3,
    _gemma3,
    turns("<start_of_image>"),
    images={"image_processor_type": "Gemma3ImageProcessor", "size": SQUARE, "image_seq_length": 16},
    processor={"processor_class": "Gemma3Processor", "image_seq_length": 16},
    ids={
        "image_token_id": "<image_soft_token>",
        "boi_token_index": "<start_of_image>",
        "eoi_token_index": "<end_of_image>",
    },
)
PALIGEMMA = Checkpoint(
    paligemma,
    _paligemma,
    None,
    images={"image_processor_type": "SiglipImageProcessor", "size": SQUARE, "image_seq_length": 16},
    processor={"processor_class": "PaliGemmaProcessor"},
    ids={"image_token_index": "<image>"},
)
