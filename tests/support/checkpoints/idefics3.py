"""Idefics3 and SmolVLM: a grid of tiles between their own marks, and the whole image as one more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf
from support.checkpoints.base import Checkpoint
from support.checkpoints.templates import capital
from support.checkpoints.tokenizers import byte_level
from support.zoo.idefics3 import idefics3, smolvlm

SIDES = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
MARKS = [
    "<fake_token_around_image>", "<image>", "<global-img>", *(f"<row_{i}_col_{j}>" for i in (1, 2) for j in (1, 2)),
    "<video>", "<|im_start|>", "<end_of_utterance>",
]  # fmt: skip


def _tokenizer(kind: Any) -> Any:
    ends = {"eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>"}
    return byte_level(kind, [*MARKS, "<|im_end|>"], bos_token="<|im_start|>", unk_token="<|im_end|>", **ends)


def _checkpoint(zoo: Callable[[], Any], name: str, videos: dict[str, Any] | None = None) -> Checkpoint:
    return Checkpoint(
        zoo,
        lambda: _tokenizer(hf.GPT2Tokenizer),
        capital("<image>"),
        images={"image_processor_type": f"{name}ImageProcessor", **SIDES},
        videos=videos,
        processor={"processor_class": f"{name}Processor", "image_seq_len": 16},
        ids={"image_token_id": "<image>"},
    )


IDEFICS3 = _checkpoint(idefics3, "Idefics3")
SMOLVLM = _checkpoint(smolvlm, "SmolVLM", {"video_processor_type": "SmolVLMVideoProcessor", **SIDES})
