"""Tokens of the right answer of a question, and of its other choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from autoprune.data.rows import Sample
from autoprune.evaluate.answers import exact_match
from autoprune.evaluate.encoding import choice_tokens, following_tokens, to_device
from autoprune.evaluate.greedy import end_tokens, padding_token, reference_answers
from autoprune.models.loading import LoadedModel


@dataclass(frozen=True)
class AnswerTokens:
    """Continuations of one prompt whose probability is asked for.

    Attributes:
        continuations: All choices; without choices one, the right answer with its end token.
        right: Index of the right one.
    """

    continuations: tuple[tuple[int, ...], ...]
    right: int

    def tokens(self, loss: str) -> list[int]:
        """Tokens of the right continuation that the loss is taken over: the ``first`` one, or the whole ``answer``."""
        tokens = list(self.continuations[self.right])
        return tokens[:1] if loss == "first" else tokens


def find_targets(
    loaded: LoadedModel, samples: Sequence[Sample], inputs: dict[str, Any], max_new_tokens: int
) -> list[AnswerTokens]:
    """Answer tokens of samples that all have choices, or all have none.

    An answer is spelled as the dense model says it where it is right (or where the row has no answers), else as the
    first accepted one.

    Args:
        loaded: The model.
        samples: The samples.
        inputs: Their encoded prompts.
        max_new_tokens: Longest answer.

    Raises:
        ModelError: the model answers with the placeholder of an image.
    """
    processor, model = loaded.processor, loaded.model
    if samples[0].choices is not None:
        return [AnswerTokens(tuple(map(tuple, choice_tokens(processor, s))), s.answer or 0) for s in samples]
    said = reference_answers(
        model, to_device(inputs, model.device), max_new_tokens, padding_token(model, processor)
    ).tokens
    ends = sorted(end_tokens(model))[:1]
    found = []
    for sample, tokens in zip(samples, said, strict=True):
        text = processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        if sample.answers and not exact_match(text, sample.answers):
            tokens = following_tokens(processor, sample, sample.answers[:1])[0] + ends
        found.append(AnswerTokens((tuple(tokens),), 0))
    return found
