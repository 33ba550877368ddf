"""One run of a model: a prompt, then a dictated answer, observed from outside, with the attention kernel asked for.

All runs are made to give the same answer tokens, so that they can be compared token by token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList
from transformers.utils import logging

from autoprune.doctor.outcomes import distance
from autoprune.doctor.prompts import VisualPrompt
from autoprune.runtime.decoder import decoder_layers, find_decoder
from autoprune.runtime.refusals import SUPPORTED_ATTENTION
from autoprune.runtime.replay import hooked

ANSWER_TOKENS = 6
_GREEDY: dict[str, Any] = {"do_sample": False, "num_beams": 1, "return_dict_in_generate": True, "output_logits": True}


@dataclass(frozen=True)
class LayerCall:
    """Arguments that one decoder layer was called with.

    Attributes:
        rows: Length of the sequence.
        rotary: The rotary embeddings, each [..., rows, d]; empty if the layer is handed none.
        places: Position ids, if the layer is handed them.
    """

    rows: int
    rotary: tuple[Tensor, ...]
    places: Tensor | None


@dataclass(frozen=True)
class CacheEntries:
    """One cache layer: the number of entries that it holds, and the length of the sequence that it reports."""

    held: int
    logical: int


@dataclass(frozen=True)
class DictatedRun:
    """Result of a run whose answer was dictated, logits as float32 on the host.

    Attributes:
        logits: For each row, FloatTensor[n, V] at the positions asked for: the head on what the decoder gave there.
        steps: FloatTensor[N, B, V], the logits that each answer token would have been chosen from.
        prefill: Call of each layer in the prefill.
        decode: Call of each layer in the last decode step.
        filled: The cache after the prefill.
        grown: The cache after the answer.
    """

    logits: list[Tensor]
    steps: Tensor
    prefill: dict[int, LayerCall]
    decode: dict[int, LayerCall]
    filled: list[CacheEntries | None]
    grown: list[CacheEntries | None]

    def same_bits(self, other: DictatedRun) -> bool:
        """Whether all logits are equal bit by bit."""
        return torch.equal(self.steps, other.steps) and all(map(torch.equal, self.logits, other.logits))

    def distance(self, other: DictatedRun) -> float:
        """Largest relative distance of the logits of a row, see `autoprune.doctor.outcomes.distance`."""
        return max(distance(self.steps, other.steps), *map(distance, self.logits, other.logits))


def run(
    model: Any, prompt: VisualPrompt, columns: Sequence[Sequence[int]], answer: Sequence[int], *, use_cache: bool = True
) -> DictatedRun:
    """Run `generate()` once, patched or not.

    Args:
        model: The model.
        prompt: The prompt.
        columns: For each row, the positions whose logits are wanted, counted without padding.
        answer: The tokens to generate, the same for each row.
        use_cache: Of `generate()`.
    """
    lengths = prompt.inputs["attention_mask"].sum(1).tolist()
    places = [[c + prompt.length - n for c in row] for row, n in zip(columns, lengths, strict=True)]
    wanted = sorted({c for row in places for c in row})
    with observed(model, wanted) as trace:
        output = model.generate(
            **prompt.inputs,
            **_GREEDY,
            min_new_tokens=len(answer),
            max_new_tokens=len(answer),
            use_cache=use_cache,
            logits_processor=LogitsProcessorList([_Dictated(answer, prompt.length)]),
        )
    logits = model.get_output_embeddings()(trace.hidden)
    index = {c: i for i, c in enumerate(wanted)}
    return DictatedRun(
        logits=[logits[b, [index[c] for c in row]].float().cpu() for b, row in enumerate(places)],
        steps=torch.stack([step.float().cpu() for step in output.logits]),
        prefill=trace.prefill,
        decode=trace.last,
        filled=trace.filled,
        grown=read_entries(output.past_key_values),
    )


def greedy_answer(model: Any, prompt: VisualPrompt, reserved: Sequence[int]) -> list[int]:
    """The model's own answer to a single row, without reserved tokens."""
    options = {"min_new_tokens": ANSWER_TOKENS, "max_new_tokens": ANSWER_TOKENS, "suppress_tokens": list(reserved)}
    output = model.generate(**prompt.inputs, **_GREEDY, **options)
    answer: list[int] = output.sequences[0, -ANSWER_TOKENS:].tolist()
    return answer


class _Dictated(LogitsProcessor):
    """Logits processor that lets one token through at each step."""

    def __init__(self, answer: Sequence[int], start: int) -> None:
        self._answer, self._start = answer, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, float("-inf"))
        forced[:, self._answer[input_ids.shape[1] - self._start]] = 0
        return forced


@dataclass
class GenerateTrace:
    """Calls of the layers, output and cache in a `generate()` call.

    Attributes:
        prefill: By layer, its call in the first pass.
        last: By layer, its call in the last pass.
        hidden: [B, n, d], what the decoder gave in the first pass at the positions asked for.
        filled: The cache after the first pass.
    """

    prefill: dict[int, LayerCall] = field(default_factory=dict)
    last: dict[int, LayerCall] = field(default_factory=dict)
    hidden: Tensor | None = None
    filled: list[CacheEntries | None] = field(default_factory=list)


@contextmanager
def observed(model: nn.Module, columns: list[int]) -> Iterator[GenerateTrace]:
    """Observe a `generate()` call; entered inside a patch, it shows what the patch hands on.

    Args:
        model: The model.
        columns: Positions of the prompt at which the decoder's output is wanted, padding included.
    """
    trace, decoder = GenerateTrace(), find_decoder(model)

    def layer_hook(i: int) -> Any:
        def before(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            trace.last[i] = _layer_call(args, kwargs)
            trace.prefill.setdefault(i, trace.last[i])

        return before

    def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if trace.hidden is None:
            trace.hidden = output[0][:, columns]
            trace.filled = read_entries(kwargs.get("past_key_values"))

    with ExitStack() as stack:
        for i, layer in enumerate(decoder_layers(decoder)):
            stack.enter_context(hooked(layer, before=layer_hook(i)))
        stack.enter_context(hooked(decoder, after=after))
        yield trace


def read_entries(cache: Any) -> list[CacheEntries | None]:
    """The layers of a cache; None for one that keeps no keys, as recurrent ones do."""
    entries: list[CacheEntries | None] = []
    for layer in getattr(cache, "layers", ()):
        keys = getattr(layer, "keys", None)
        entries.append(CacheEntries(keys.shape[-2], int(layer.get_seq_length())) if isinstance(keys, Tensor) else None)
    return entries


def _layer_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> LayerCall:
    hidden: Tensor = args[0] if args else kwargs["hidden_states"]
    given, places = kwargs.get("position_embeddings"), kwargs.get("position_ids")
    rotary = (given,) if isinstance(given, Tensor) else tuple(given or ())
    return LayerCall(hidden.shape[1], rotary, places if isinstance(places, Tensor) else None)


@contextmanager
def kernel(model: Any, name: str) -> Iterator[None]:
    """Run a model with this attention implementation; afterwards every part has its own again."""
    config = model.config
    parts = {part: getattr(config, part, None) for part in config.sub_configs}
    before = {part: own._attn_implementation for part, own in parts.items() if own is not None}
    own = {"": config._attn_implementation, **before}
    try:
        _set(model, name)
        yield
    finally:
        _set(model, own)


def _set(model: Any, name: str | dict[str, str]) -> None:
    """Set attention implementations without the warnings about parts that have no attention of their own."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model.set_attn_implementation(name)
    finally:
        logging.set_verbosity(level)


def current_kernel(model: Any) -> str:
    """The attention implementation of the decoder."""
    decoder: Any = find_decoder(model)
    name: str = decoder.config._attn_implementation
    return name


def available_kernels(model: Any) -> list[str]:
    """The implementations that pruning supports and that this model accepts."""
    return [name for name in SUPPORTED_ATTENTION if _accepts(model, name)]


def _accepts(model: Any, name: str) -> bool:
    try:
        with kernel(model, name):
            return current_kernel(model) == name
    except (ValueError, ImportError):
        return False
