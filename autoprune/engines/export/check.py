"""The compiled graphs beside autoprune on transformers, on the same prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune.engines.export.run_script import Cache, CompiledModel
from autoprune.evaluate.greedy import generate_greedy, padding_token
from autoprune.models.loading import LoadedModel
from autoprune.runtime import apply
from autoprune.schedule import Schedule

TOLERANCE = 1e-4
"""Largest difference of a logit, as a share of the largest one where that is above 1: noise grows with it."""


@dataclass(frozen=True)
class Agreement:
    """One prompt through both.

    Attributes:
        same_tokens: Whether the greedy answers have the same tokens.
        tokens: How many these are.
        max_logit_difference: Largest difference of a logit of the first answer token.
        allowed: The largest that passes.
        same_lengths: Whether every cache layer holds as many entries.
        kv_entries: Cache entries of each layer behind the prompt.
    """

    same_tokens: bool
    tokens: int
    max_logit_difference: float
    allowed: float
    same_lengths: bool
    kv_entries: list[int]

    @property
    def passed(self) -> bool:
        """Whether the graphs do what autoprune does."""
        return self.same_tokens and self.same_lengths and self.max_logit_difference <= self.allowed

    def to_dict(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return {"passed": self.passed, **asdict(self)}


def compare(
    loaded: LoadedModel,
    schedule: Schedule,
    compiled: CompiledModel,
    inputs: Mapping[str, Any],
    max_new_tokens: int = 16,
) -> Agreement:
    """Runs one prompt through a patched model and through the graphs.

    Args:
        loaded: The model, on the CPU.
        schedule: What was compiled.
        compiled: The graphs.
        inputs: The prompt, as the processor makes it.
        max_new_tokens: Longest answer.
    """
    logits, cache = compiled.prefill(arrays(inputs))
    answer = compiled.generate(arrays(inputs), max_new_tokens)
    with torch.no_grad(), apply(loaded.model, schedule) as patch:
        wanted = loaded.model(**inputs, use_cache=True, logits_to_keep=1).logits[0, -1].float().numpy()
        entries = patch.report.kv_entries[:, 0].tolist()
        padding = padding_token(loaded.model, loaded.processor)
        (tokens,) = generate_greedy(loaded.model, inputs, max_new_tokens, padding).tokens
    lengths = kv_lengths(cache)
    return Agreement(
        same_tokens=answer == tokens,
        tokens=len(tokens),
        max_logit_difference=float(np.abs(logits - wanted).max()),
        allowed=TOLERANCE * max(1.0, float(np.abs(wanted).max())),
        same_lengths=lengths == entries,
        kv_entries=lengths,
    )


def arrays(inputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors of a prompt as arrays."""
    return {name: value.numpy() for name, value in inputs.items() if isinstance(value, Tensor)}


def kv_lengths(cache: Cache) -> list[int]:
    """Entries that each cache layer holds."""
    return [value.shape[2] for name, value in cache.items() if name.startswith("key_")]
