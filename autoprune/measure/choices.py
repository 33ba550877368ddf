"""Choices as token sequences that a model can be asked the probability of."""

from __future__ import annotations

from typing import Any

from autoprune.errors import DataError
from autoprune.measure.loading import render
from autoprune.measure.rows import Sample


def choice_tokens(processor: Any, sample: Sample) -> list[list[int]]:
    """Tokens of each choice as it would follow the prompt, without an end token.

    A choice is tokenised together with the prompt, so that word-initial pieces come out right; a space is put before it
    unless the prompt ends in white space.

    Raises:
        DataError: a choice has no tokens.
    """
    prompt = render(processor, sample)
    separator = "" if prompt[-1:].isspace() else " "
    tokenizer = processor.tokenizer
    before = tokenizer(prompt)["input_ids"]
    found = []
    for choice in sample.choices or ():
        whole = tokenizer(prompt + separator + choice)["input_ids"]
        joined = whole[: len(before)] == before
        tokens = whole[len(before) :] if joined else tokenizer(choice, add_special_tokens=False)["input_ids"]
        if not tokens:
            raise DataError(f"row {sample.id}: a choice has no tokens", field="choices", value=choice)
        found.append(list(tokens))
    return found
