"""The compiled graphs beside autoprune on transformers, on the same prompt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autoprune.data.rows import Sample
from autoprune.engines.export.run_script import Arrays, Cache, CompiledModel
from autoprune.evaluate.encoding import model_inputs
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
        same_inputs: Whether the compiled processor makes the same of prompt and images.
        same_tokens: Whether the greedy answers have the same tokens.
        tokens: How many these are.
        max_logit_difference: Largest difference of a logit of the first answer token.
        allowed: The largest that passes.
        same_lengths: Whether every cache layer holds as many entries.
        kv_entries: Cache entries of each layer behind the prompt.
    """

    same_inputs: bool
    same_tokens: bool
    tokens: int
    max_logit_difference: float
    allowed: float
    same_lengths: bool
    kv_entries: list[int]

    @property
    def passed(self) -> bool:
        """Whether the graphs do what autoprune does."""
        exact = self.same_inputs and self.same_tokens and self.same_lengths
        return exact and self.max_logit_difference <= self.allowed

    def __str__(self) -> str:
        inputs, tokens, lengths = (
            "the same" if same else "OTHER" for same in (self.same_inputs, self.same_tokens, self.same_lengths)
        )
        return (
            f"{inputs} inputs, {tokens} {self.tokens} answer tokens, {lengths} cache lengths; largest difference of a "
            f"logit {self.max_logit_difference:.1e}, allowed {self.allowed:.1e}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return {"passed": self.passed, **asdict(self)}


def compare(
    loaded: LoadedModel,
    schedule: Schedule,
    compiled: CompiledModel,
    sample: Sample,
    max_new_tokens: int = 16,
) -> Agreement:
    """Runs one prompt through a patched model, and from its text and images on through what was compiled.

    Args:
        loaded: The model, on the CPU.
        schedule: What was compiled.
        compiled: The graphs.
        sample: A question about images, without messages.
        max_new_tokens: Longest answer.

    Raises:
        ValueError: the graphs do not take the prompt.
    """
    inputs = model_inputs(loaded, [sample])
    given = compiled.encode(sample.prompt, [image.open() for image in sample.images])
    logits, cache = compiled.prefill(given)
    answer = compiled.generate(given, max_new_tokens)
    with torch.no_grad(), apply(loaded.model, schedule) as patch:
        wanted = loaded.model(**inputs, use_cache=True, logits_to_keep=1).logits[0, -1].float().numpy()
        entries = patch.report.kv_entries[:, 0].tolist()
        padding = padding_token(loaded.model, loaded.processor)
        (tokens,) = generate_greedy(loaded.model, inputs, max_new_tokens, padding).tokens
    lengths = kv_lengths(cache)
    return Agreement(
        same_inputs=_are_same(given, arrays(inputs)),
        same_tokens=answer == tokens,
        tokens=len(tokens),
        max_logit_difference=float(np.abs(logits - wanted).max()),
        allowed=TOLERANCE * max(1.0, float(np.abs(wanted).max())),
        same_lengths=lengths == entries,
        kv_entries=lengths,
    )


def _are_same(given: Arrays, wanted: Arrays) -> bool:
    return all(name in given and np.array_equal(given[name], value) for name, value in wanted.items())


def arrays(inputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Tensors of a prompt as arrays."""
    return {name: value.numpy() for name, value in inputs.items() if isinstance(value, Tensor)}


def kv_lengths(cache: Cache) -> list[int]:
    """Entries that each cache layer holds."""
    return [value.shape[2] for name, value in cache.items() if name.startswith("key_")]
