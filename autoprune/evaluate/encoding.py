"""Samples as model inputs, and choices and answers as the tokens that follow a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from autoprune.data.rows import IMAGE_MARK, Sample
from autoprune.errors import DataError


def encode(processor: Any, samples: Sequence[Sample]) -> dict[str, Any]:
    """The inputs of a batch: chat template if the processor has one, images at their marks, left padding.

    Without ``<image>`` marks in the prompt, the images come before it.

    Returns:
        What the processor makes: `input_ids` and `attention_mask` [batch, seq], `pixel_values` and so on.

    Raises:
        DataError: the processor refuses the samples.
    """
    texts = [render(processor, sample) for sample in samples]
    bos = getattr(processor.tokenizer, "bos_token", None)
    try:
        inputs = processor(
            text=texts,
            images=[[image.open() for image in sample.images] for sample in samples],
            padding=True,
            padding_side="left",
            return_tensors="pt",
            # A template that writes the first special token itself must not get a second one.
            add_special_tokens=not (bos and all(text.startswith(bos) for text in texts)),
        )
    except (ValueError, TypeError, IndexError) as error:
        raise DataError(
            f"the processor refuses rows {samples[0].id} to {samples[-1].id}: {' '.join(str(error).split())[:300]}",
            field="prompt",
            remedy="check that the prompts and images are what this model takes",
        ) from error
    return dict(inputs)


def to_device(inputs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Model inputs with their tensors on a device."""
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


def render(processor: Any, sample: Sample) -> str:
    """The prompt as text, up to where the answer starts, one placeholder per image."""
    parts = sample.prompt.split(IMAGE_MARK)
    if len(parts) == 1:
        parts = [""] * len(sample.images) + parts
    if not getattr(processor, "chat_template", None):
        token = getattr(processor, "image_token", IMAGE_MARK)
        return str(getattr(token, "content", token)).join(parts)
    content: list[dict[str, str]] = []
    for number, part in enumerate(parts):
        if number:
            content.append({"type": "image"})
        if part.strip():
            content.append({"type": "text", "text": part.strip()})
    messages = [{"role": "user", "content": content}]
    return str(processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


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
