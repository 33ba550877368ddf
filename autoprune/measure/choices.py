"""Choices and answers as token sequences that a model can be asked the probability of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autoprune.errors import DataError
from autoprune.measure.loading import render
from autoprune.measure.rows import Sample


def choice_tokens(processor: Any, sample: Sample) -> list[list[int]]:
    """Tokens of each choice as it would follow the prompt, without an end token.

    Raises:
        DataError: a choice has no tokens.
    """
    return following_tokens(processor, sample, sample.choices or ())


def following_tokens(processor: Any, sample: Sample, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of each text as it would follow the prompt of a sample, without an end token.

    A text is tokenised together with the prompt, so that word-initial pieces come out right; a space is put before it
    unless the prompt ends in white space.

    Raises:
        DataError: a text has no tokens.
    """
    prompt = render(processor, sample)
    separator = "" if prompt[-1:].isspace() else " "
    tokenizer = processor.tokenizer
    before = tokenizer(prompt)["input_ids"]
    found = []
    for text in texts:
        whole = tokenizer(prompt + separator + text)["input_ids"]
        joined = whole[: len(before)] == before
        tokens = whole[len(before) :] if joined else tokenizer(text, add_special_tokens=False)["input_ids"]
        if not tokens:
            field = "choices" if sample.choices is not None else "answers"
            raise DataError(f"row {sample.id}: one of them has no tokens", field=field, value=text)
        found.append(list(tokens))
    return found
