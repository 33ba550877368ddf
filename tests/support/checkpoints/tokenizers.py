"""Tiny tokenizers of the families' own classes, trained on a few sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TEXT = (
    "what color is the left one", "how many red and green dots are there", "read the number", "which side is brighter",
    "red green blue yes no 0 1 2 3 4 5 6 7 8 9", "user: User: USER: assistant: Assistant: ASSISTANT: model system",
)  # fmt: skip
_WORDS = 48
"""Pieces beyond single characters: enough for words of the sentences with the space before them."""


def byte_level(kind: type | None, special: Sequence[str], **options: Any) -> Any:
    """A byte-level tokenizer, as GPT-2, Qwen and Llama 3 have it.

    Args:
        kind: The tokenizer's class; None = the family has none of its own.
        special: Tokens that are never split.
        options: Of the class: the tokens with a role.
    """
    trained = Tokenizer(models.BPE())
    trained.decoder = decoders.ByteLevel()
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=256 + _WORDS, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(TEXT, trainer)
    if kind is None:
        return _with_special(PreTrainedTokenizerFast(tokenizer_object=trained, **options), special)
    return _with_special(kind(**_pieces(trained), **options), special)


def byte_fallback(kind: type, first: Sequence[str], special: Sequence[str], **options: Any) -> Any:
    """A tokenizer whose unknown characters become bytes, as SentencePiece models of Llama and Gemma have it.

    Args:
        kind: The tokenizer's class.
        first: Tokens with the first ids: padding, start, end, unknown.
        special: Further tokens that are never split.
        options: Of the class: the tokens with a role.
    """
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    known = [*first, *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=len(known) + 48 + _WORDS, special_tokens=known, show_progress=False)
    trained.train_from_iterator((*TEXT, "\n"), trainer)
    return _with_special(kind(**_pieces(trained), **options), special)


def _pieces(trained: Tokenizer) -> Mapping[str, Any]:
    model = json.loads(trained.to_str())["model"]
    return {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}


def _with_special(tokenizer: Any, special: Sequence[str]) -> Any:
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.padding_side = "left"
    return tokenizer
