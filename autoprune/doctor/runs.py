"""One run of a model: a prompt, then an answer that is dictated, so that all runs can be compared token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from autoprune.doctor.prompts import Prompt
from autoprune.doctor.watching import Entries, Seen, read_entries, watched

ANSWER_TOKENS = 6
_GREEDY: dict[str, Any] = {"do_sample": False, "num_beams": 1, "return_dict_in_generate": True, "output_logits": True}


@dataclass(frozen=True)
class Run:
    """What came out, logits as float32 on the host.

    Attributes:
        logits: For each row, FloatTensor[n, V] at the positions asked for: the head on what the decoder gave there.
        steps: FloatTensor[N, B, V], the logits that each answer token would have been chosen from.
        prefill: What each layer got in the prefill.
        decode: What each layer got in the last decode step.
        filled: The cache after the prefill.
        grown: The cache after the answer.
    """

    logits: list[Tensor]
    steps: Tensor
    prefill: dict[int, Seen]
    decode: dict[int, Seen]
    filled: list[Entries | None]
    grown: list[Entries | None]


def run(
    model: Any, prompt: Prompt, columns: Sequence[Sequence[int]], answer: Sequence[int], *, use_cache: bool = True
) -> Run:
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
    with watched(model, wanted) as watch:
        made = model.generate(
            **prompt.inputs,
            **_GREEDY,
            min_new_tokens=len(answer),
            max_new_tokens=len(answer),
            use_cache=use_cache,
            logits_processor=LogitsProcessorList([_Dictated(answer, prompt.length)]),
        )
    logits = model.get_output_embeddings()(watch.hidden)
    index = {c: i for i, c in enumerate(wanted)}
    return Run(
        logits=[logits[b, [index[c] for c in row]].float().cpu() for b, row in enumerate(places)],
        steps=torch.stack([step.float().cpu() for step in made.logits]),
        prefill=watch.prefill,
        decode=watch.last,
        filled=watch.filled,
        grown=read_entries(made.past_key_values),
    )


def greedy_answer(model: Any, prompt: Prompt, reserved: Sequence[int]) -> list[int]:
    """The model's own answer to a single row, without tokens that mean something to it."""
    options = {"min_new_tokens": ANSWER_TOKENS, "max_new_tokens": ANSWER_TOKENS, "suppress_tokens": list(reserved)}
    made = model.generate(**prompt.inputs, **_GREEDY, **options)
    answer: list[int] = made.sequences[0, -ANSWER_TOKENS:].tolist()
    return answer


class _Dictated(LogitsProcessor):
    """Lets one token through at each step."""

    def __init__(self, answer: Sequence[int], start: int) -> None:
        self._answer, self._start = answer, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, float("-inf"))
        forced[:, self._answer[input_ids.shape[1] - self._start]] = 0
        return forced
