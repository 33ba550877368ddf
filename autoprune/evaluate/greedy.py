"""Greedy decoding: the dense model's reference answers, and answers that part from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from autoprune.errors import ModelError
from autoprune.runtime.decoder import visual_token_ids

# Settings of a generation config that change logits, with the values that leave them alone.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "repetition_penalty": (None, 1.0),
    "encoder_repetition_penalty": (None, 1.0),
    "no_repeat_ngram_size": (None, 0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "bad_words_ids": (None,),
    "min_length": (None, 0),
    "min_new_tokens": (None, 0),
    "forced_bos_token_id": (None,),
    "forced_eos_token_id": (None,),
    "suppress_tokens": (None, []),
    "begin_suppress_tokens": (None, []),
    "sequence_bias": (None,),
    "exponential_decay_length_penalty": (None,),
    "guidance_scale": (None, 1.0),
    "watermarking_config": (None,),
}


@dataclass(frozen=True)
class Decoded:
    """Greedy answers of a batch.

    Attributes:
        tokens: Of each row, up to and including the end token.
        log_probabilities: Of each of these tokens, in nats.
    """

    tokens: list[list[int]]
    log_probabilities: list[list[float]]


def check_greedy(generation_config: Any) -> None:
    """Refuses a model whose `generate` would not take the plain arg-max.

    Raises:
        ModelError: naming the setting.
    """
    for name, neutral in _NEUTRAL.items():
        value = getattr(generation_config, name, None)
        if value not in neutral:
            raise ModelError(
                "changes the logits, so an answer could not be checked by plain greedy decoding",
                field=f"generation_config.{name}",
                value=value,
                remedy="remove it from the model's generation_config.json",
            )


def end_tokens(model: Any) -> frozenset[int]:
    """Tokens that end an answer."""
    end = model.generation_config.eos_token_id
    return frozenset() if end is None else frozenset([end] if isinstance(end, int) else end)


def padding_token(model: Any, processor: Any) -> int:
    """A token for positions that are masked anyway."""
    for token in (model.generation_config.pad_token_id, processor.tokenizer.pad_token_id, *sorted(end_tokens(model))):
        if token is not None:
            return int(token)
    return 0


def generate_greedy(model: Any, inputs: Mapping[str, Any], max_new_tokens: int, padding: int) -> Decoded:
    """Answers by the model's own ``generate``, without sampling or beams.

    Args:
        model: The model, with or without a patch.
        inputs: Encoded prompts, left-padded.
        max_new_tokens: Longest answer.
        padding: Token id that `generate` appends to rows that ended.

    Raises:
        ModelError: the model's own `generate` does not let its logits be watched.
    """
    watch = _Watch()
    with torch.no_grad():
        sequences = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=padding,
            logits_processor=LogitsProcessorList([watch]),
        )
    if not watch.best:
        raise ModelError(
            "its own generate() ignores logits processors, so that its answers cannot be followed",
            field="model",
            value=type(model).__name__,
            remedy="score schedules on it with plain apply() and generate()",
        )
    ends = end_tokens(model)
    prompt = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0  # embeddings come without their ids
    tokens = [_until_end(row, ends) for row in sequences[:, prompt:].tolist()]
    best = torch.stack(watch.best, 1).tolist()
    return Decoded(tokens, [row[: len(answer)] for row, answer in zip(best, tokens, strict=True)])


def reference_answers(model: Any, inputs: Mapping[str, Any], max_new_tokens: int, padding: int) -> Decoded:
    """Answers of the dense model that other passes are to follow; arguments as of `generate_greedy`.

    Raises:
        ModelError: an answer holds the placeholder of an image.
    """
    visual, reference = set(visual_token_ids(model.config)), generate_greedy(model, inputs, max_new_tokens, padding)
    if any(not visual.isdisjoint(answer) for answer in reference.tokens):
        raise ModelError(
            "answers with its own image placeholder, which no forward pass over prompt and answer can hold",
            field="model",
            value=type(model).__name__,
            remedy="use a trained model",
        )
    return reference


def continue_greedy(
    model: Any,
    cache: Any,
    attention_mask: Tensor,
    positions: Tensor,
    tokens: Tensor,
    budgets: Sequence[int],
    ends: frozenset[int],
) -> list[list[int]]:
    """Decodes on from a cache, all rows in one loop.

    Args:
        model: The model, with its patch still in place.
        cache: KV cache of the rows.
        attention_mask: [R, S] over the columns of the cache; holes are columns that the row must not see.
        positions: Position ids [..., R, 1] of `tokens`.
        tokens: LongTensor[R], the first token of each row; not in the cache yet.
        budgets: How many tokens each row may still have, `tokens` included.
        ends: Tokens that end a row.

    Returns:
        Tokens of each row, the first one and the end token included.
    """
    answers: list[list[int]] = [[token] for token in tokens.tolist()]
    open_rows = [_is_open(answer, budget, ends) for answer, budget in zip(answers, budgets, strict=True)]
    while any(open_rows):
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(answers), 1)], 1)
        with torch.no_grad():
            logits = model(
                input_ids=tokens[:, None],
                attention_mask=attention_mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        tokens, positions = logits[:, -1].argmax(-1), positions + 1
        for row, token in enumerate(tokens.tolist()):
            if open_rows[row]:
                answers[row].append(token)
                open_rows[row] = _is_open(answers[row], budgets[row], ends)
    return answers


def _is_open(answer: list[int], budget: int, ends: frozenset[int]) -> bool:
    return answer[-1] not in ends and len(answer) < budget


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    stop = next((number + 1 for number, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:stop]


class _Watch(LogitsProcessor):
    """Remembers the log-probability of the best token of each step; changes nothing."""

    def __init__(self) -> None:
        self.best: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.best.append(scores.float().log_softmax(-1).amax(-1))
        return scores
