"""LLaVA, LLaVA-NeXT and LLaVA-OneVision: one square, tiles by the shape of the image, tiles for a single image."""

from __future__ import annotations

from typing import Any

import transformers as hf
from support.checkpoints.base import Checkpoint
from support.checkpoints.templates import chatml, instructed, upper
from support.checkpoints.tokenizers import byte_fallback, byte_level
from support.zoo.llava import llava
from support.zoo.llava_next import PINPOINTS, llava_next
from support.zoo.llava_onevision import llava_onevision

SQUARE = {"height": 16, "width": 16}
CROP = {"size": {"shortest_edge": 16}, "crop_size": SQUARE}
CLIP = {"vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}


def _llama() -> Any:
    ends = {"pad_token": "<pad>", "add_bos_token": True}
    return byte_fallback(hf.LlamaTokenizer, ["<unk>", "<s>", "</s>"], ["<image>", "<pad>"], **ends)


def _qwen() -> Any:
    special = ["<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    return byte_level(hf.Qwen2Tokenizer, special, eos_token="<|im_end|>", pad_token="<|endoftext|>")


LLAVA = Checkpoint(
    llava,
    _llama,
    upper("<image>"),
    images={"image_processor_type": "CLIPImageProcessor", **CROP},
    processor={"processor_class": "LlavaProcessor", "patch_size": 4, **CLIP},
    ids={"image_token_index": "<image>"},
)
LLAVA_NEXT = Checkpoint(
    llava_next,
    _llama,
    instructed("<image>\n"),
    images={"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": PINPOINTS, **CROP},
    processor={"processor_class": "LlavaNextProcessor", "patch_size": 8, **CLIP},
    ids={"image_token_index": "<image>"},
)
LLAVA_ONEVISION = Checkpoint(
    llava_onevision,
    _qwen,
    chatml("<image>\n"),
    images={"image_processor_type": "LlavaOnevisionImageProcessor", "image_grid_pinpoints": PINPOINTS, "size": SQUARE},
    videos={"video_processor_type": "LlavaOnevisionVideoProcessor", "size": SQUARE},
    processor={
        "processor_class": "LlavaOnevisionProcessor", "num_image_tokens": 16, "vision_feature_select_strategy": "full"
    },
    ids={"image_token_index": "<image>", "video_token_index": "<video>"},
)  # fmt: skip
