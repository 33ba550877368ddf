"""Greedy decoding: the dense model's reference answers, and other answers decoded on from a KV cache."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import DynamicCache, LogitsProcessor, LogitsProcessorList
from transformers.cache_utils import DynamicLayer, LinearAttentionLayer

from autoprune.errors import ModelError
from autoprune.runtime import apply
from autoprune.runtime.cache import mark_pruned
from autoprune.runtime.cache_layers import Pruned
from autoprune.runtime.decoder import visual_token_ids
from autoprune.runtime.realign import held_tensors
from autoprune.runtime.replay import shadowed
from autoprune.schedule import Schedule


@dataclass(frozen=True)
class GreedyAnswers:
    """Greedy answers of a batch.

    Attributes:
        tokens: Of each row, up to and including the end token.
        log_probabilities: Of each of these tokens, in nats.
    """

    tokens: list[list[int]]
    log_probabilities: list[list[float]]


def end_tokens(model: Any) -> frozenset[int]:
    """Tokens that end an answer."""
    end = model.generation_config.eos_token_id
    return frozenset() if end is None else frozenset([end] if isinstance(end, int) else end)


def padding_token(model: Any, processor: Any) -> int:
    """Token id that fills up padded positions, which are masked."""
    for token in (model.generation_config.pad_token_id, processor.tokenizer.pad_token_id, *sorted(end_tokens(model))):
        if token is not None:
            return int(token)
    return 0


def generate_greedy(model: Any, inputs: Mapping[str, Any], max_new_tokens: int, padding: int) -> GreedyAnswers:
    """Answers by the model's own ``generate``, without sampling or beams.

    Args:
        model: The model, with or without a patch.
        inputs: Encoded prompts, left-padded.
        max_new_tokens: Longest answer.
        padding: Token id that `generate` appends to rows that ended.

    Raises:
        ModelError: the model's own `generate` runs no logits processors.
    """
    watch = _BestTokens()
    sequences = run_generate(model, inputs, max_new_tokens, padding, watch)
    if not watch.best:
        raise ModelError(
            "its own generate() runs no logits processors, so that its answers cannot be followed",
            field="model",
            value=type(model).__name__,
            remedy="use a model that generates as transformers' models do",
        )
    ends = end_tokens(model)
    prompt = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0  # embeddings come without their ids
    tokens = [_until_end(row, ends) for row in sequences[:, prompt:].tolist()]
    best = torch.stack(watch.best, 1).tolist()
    return GreedyAnswers(tokens, [row[: len(answer)] for row, answer in zip(best, tokens, strict=True)])


def run_generate(
    model: Any, inputs: Mapping[str, Any], max_new_tokens: int, padding: int, processor: LogitsProcessor
) -> Tensor:
    """Ids from the model's own ``generate``, without sampling or beams; `processor` sees the logits of each step."""
    with torch.no_grad(), _last_processor(model, processor):
        sequences: Tensor = model.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            temperature=None,
            top_p=None,
            top_k=None,
            pad_token_id=padding,
        )
    return sequences


@contextmanager
def _last_processor(model: nn.Module, processor: LogitsProcessor) -> Iterator[None]:
    """Within the block, ``generate()`` runs one more logits processor behind all others.

    As an argument some models do not hand it on: Janus drops it.
    """

    def wrapped(method: Callable[..., LogitsProcessorList]) -> Callable[..., LogitsProcessorList]:
        return lambda *args, **kwargs: LogitsProcessorList([*method(*args, **kwargs), processor])

    with ExitStack() as stack:
        for module in model.modules():
            method = getattr(module, "_get_logits_processor", None)
            if method is not None:
                stack.enter_context(shadowed(module, "_get_logits_processor", wrapped(method)))
        yield


def reference_answers(model: Any, inputs: Mapping[str, Any], max_new_tokens: int, padding: int) -> GreedyAnswers:
    """Answers of the dense model, to which others are compared; arguments as of `generate_greedy`.

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


def is_unfinished(answer: Sequence[int], max_new_tokens: int, ends: frozenset[int]) -> bool:
    """Whether greedy decoding goes on behind an answer of at least one token."""
    return answer[-1] not in ends and len(answer) < max_new_tokens


def continue_greedy(
    model: Any,
    cache: Any,
    attention_mask: Tensor,
    positions: Tensor,
    begun: Sequence[Sequence[int]],
    max_new_tokens: int,
    ends: frozenset[int],
) -> list[list[int]]:
    """Greedy answers decoded on from a KV cache, all rows in one loop.

    Args:
        model: The model, with its patch still in place.
        cache: KV cache of the rows.
        attention_mask: [R, S] over the columns of the cache: 0 at padding.
        positions: Position ids [..., R, 1] of the last token of each row.
        begun: Tokens of each answer so far, at least one; the last of them is not in the cache yet.
        max_new_tokens: Longest answer.
        ends: Tokens that end an answer.

    Returns:
        Tokens of each answer, those that it began with and the end token included.
    """
    answers = [list(tokens) for tokens in begun]
    goes_on = [is_unfinished(answer, max_new_tokens, ends) for answer in answers]
    last = torch.tensor([answer[-1] for answer in answers], device=positions.device)
    while any(goes_on):
        attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(answers), 1)], 1)
        with torch.no_grad():
            logits = model(
                input_ids=last[:, None],
                attention_mask=attention_mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        last, positions = logits[:, -1].argmax(-1), positions + 1
        for row, token in enumerate(last.tolist()):
            if goes_on[row]:
                answers[row].append(token)
                goes_on[row] = is_unfinished(answers[row], max_new_tokens, ends)
    return answers


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    stop = next((number + 1 for number, token in enumerate(tokens) if token in ends), len(tokens))
    return tokens[:stop]


class _BestTokens(LogitsProcessor):
    """Remembers the log-probability of the best token of each step; changes nothing."""

    def __init__(self) -> None:
        self.best: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.best.append(scores.float().log_softmax(-1).amax(-1))
        return scores


@dataclass(frozen=True)
class OpenRows:
    """Rows of one batch whose answers are not finished.

    Attributes:
        places: Which samples of the batch they are.
        begun: Tokens of each answer so far; the last of them is not in the cache yet.
        attention_mask: [R, S] over the logical columns of the cache: 0 at padding.
        positions: Position ids [..., R, 1] of the last token of each row.
        cache: KV cache of the rows, all layers.
    """

    places: list[int]
    begun: list[list[int]]
    attention_mask: Tensor
    positions: Tensor
    cache: Any

    @property
    def nbytes(self) -> int:
        """Memory held by the cache."""
        tensors = [tensor for layer in self.cache.layers for tensor in held_tensors(layer)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def finish(model: Any, parts: Sequence[OpenRows], max_new_tokens: int, ends: frozenset[int]) -> list[list[list[int]]]:
    """Greedy answers of open rows, decoded to their end, rows of several batches and schedules in one loop.

    A decode step costs next to the same for one row as for many, and a batch seldom has more than a few such rows. What
    a schedule dropped is gone from the cache; a decode step needs to know no more of it.

    Args:
        model: The model, without a patch.
        parts: Rows of some batches, each under some schedule; their caches are used up.
        max_new_tokens: Longest answer.
        ends: Tokens that end an answer.

    Returns:
        For each part, the tokens of each of its rows, those that it began with included.
    """
    length = max(part.attention_mask.shape[1] for part in parts)
    masks = [pad(part.attention_mask, (length - part.attention_mask.shape[1], 0)) for part in parts]
    positions = torch.cat([part.positions for part in parts], -2)
    begun = [tokens for part in parts for tokens in part.begun]
    cache = parts[0].cache if len(parts) == 1 else join_caches([part.cache for part in parts])
    with apply(model, Schedule()):
        answers = iter(continue_greedy(model, cache, torch.cat(masks), positions, begun, max_new_tokens, ends))
    return [list(islice(answers, len(part.begun))) for part in parts]


def join_caches(caches: Sequence[Any]) -> Any:
    """One KV cache for the rows of several; rows end at the same logical column, shorter ones are padded on the left.

    Padded columns are to be masked by the attention mask; entries that pad a pruned layer are marked as fillers.
    """
    joined: Any = DynamicCache()
    lengths = [cache.get_seq_length() for cache in caches]
    for i in range(len(caches[0].layers)):
        layers = [cache.layers[i] for cache in caches]
        if isinstance(layers[0], LinearAttentionLayer):
            joined.layers.append(_joined_states(layers))
            continue
        entries = max(layer.keys.shape[-2] for layer in layers)
        keys = torch.cat([_padded(layer.keys, entries) for layer in layers])
        layer: Any = DynamicLayer()
        layer.lazy_initialization(keys, keys)
        layer.keys, layer.values = keys, torch.cat([_padded(layer.values, entries) for layer in layers])
        joined.layers.append(layer)
        if any(isinstance(part, Pruned) for part in layers):
            _mark(joined, i, layers, lengths, entries)
    return joined


def _joined_states(layers: Sequence[LinearAttentionLayer]) -> LinearAttentionLayer:
    """Recurrent states of the rows of several; what pads a row on the left has left none."""
    joined = copy.copy(layers[0])
    for name in ("conv_states", "recurrent_states"):
        held = [getattr(layer, name) for layer in layers]
        states = {i: None if state is None else torch.cat([h[i] for h in held]) for i, state in held[0].items()}
        setattr(joined, name, states)
    return joined


def _mark(joined: Any, i: int, layers: Sequence[Any], lengths: Sequence[int], entries: int) -> None:
    columns, filled = [], []
    for layer, length in zip(layers, lengths, strict=True):
        if isinstance(layer, Pruned):
            own, real = layer.logical(length)
        else:
            own = torch.arange(length, device=layer.keys.device).expand(len(layer.keys), -1)
            real = torch.ones_like(own, dtype=torch.bool)
        missing = (entries - own.shape[1], 0)
        columns.append(pad(own + max(lengths) - length, missing))
        filled.append(pad(real, missing))
    real = torch.cat(filled)
    shifts = [getattr(layer, "shift", None) for layer in layers]
    shift = None
    if any(s is not None for s in shifts):
        rows = zip(shifts, layers, strict=True)
        shift = torch.cat([real.new_zeros(len(p.keys), dtype=torch.long) if s is None else s for s, p in rows])
    mark_pruned(joined, i, torch.cat(columns), real, max(lengths), bool(real.all()), shift)


def _padded(tensor: Tensor, entries: int) -> Tensor:
    return pad(tensor, (0, 0, entries - tensor.shape[-2], 0))
