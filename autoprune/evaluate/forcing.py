"""Whether one pass over prompts and answers gives what ``generate()`` sees: by a model's structure, and by trial."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from autoprune.data.samples import SampleSet
from autoprune.evaluate.batch import PreparedBatch
from autoprune.evaluate.encoding import Forced, choice_tokens, force, shared_features
from autoprune.evaluate.greedy import padding_token
from autoprune.evaluate.planning import row_count
from autoprune.evaluate.repeats import repeated_rows
from autoprune.evaluate.stepwise import stepped_logits
from autoprune.models.loading import LoadedModel

_CUT = {"full_attention", "sliding_attention", "chunked_attention", "conv", "linear_attention"}
"""Kinds of layers whose cache can be cut back to what it was before a token."""
_TRIED = 2  # rows with choices: of different lengths, so that one is padded


def why_unforced(loaded: LoadedModel, data: SampleSet) -> str | None:
    """Why answers of a model cannot be checked by teacher forcing, as far as it shows before any row is answered.

    Its layers must have caches that rejected tokens of the dense answer can be taken out of, and one pass over prompts
    and answers must put tokens where ``generate()`` would. Rows with choices are never generated, so the first of them
    are tried: their choices are forced in one pass and, step by step, inside ``generate()``.

    Args:
        loaded: The model, not patched.
        data: The rows.

    Returns:
        The reason in words; None if nothing speaks against it.
    """
    return _by_structure(loaded.model) or _by_choices(loaded, data)


def unlike_generated(batch: PreparedBatch[Any]) -> str | None:
    """What the dense pass over a batch gives that ``generate()`` did not see as it answered; None if they agree."""
    if batch.reference is None:
        return None
    return _difference(batch.dense_pass.logits[batch.forced.valid], batch.reference.log_probabilities)


def plain_logits(model: Any, forced: Forced) -> Tensor:
    """[B, width, vocabulary]: one pass over prompts and continuations, without a cache."""
    positions = model._prepare_position_ids_for_generation(forced.inputs["input_ids"], forced.inputs)
    with torch.no_grad():
        logits: Tensor = model(
            **forced.inputs, position_ids=positions, use_cache=False, logits_to_keep=forced.width
        ).logits[:, -forced.width :]  # some models give all columns
    return logits


def _by_structure(model: Any) -> str | None:
    others = set(getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()) - _CUT
    if others:
        return f"it has layers ({', '.join(sorted(others))}) in which a rejected token would still count"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "its forward pass takes no position ids"
    return None


def _by_choices(loaded: LoadedModel, data: SampleSet) -> str | None:
    tried = list(islice((sample for sample in data if sample.choices is not None), _TRIED))
    if not tried:
        return None
    rows = repeated_rows(loaded, tried, list(map(row_count, tried)))
    tokens = [each for sample in tried for each in choice_tokens(loaded.processor, sample)]
    forced = force(loaded.model, rows.inputs, tokens, padding_token(loaded.model, loaded.processor))
    with shared_features(loaded.model), rows.features_once(loaded.model):
        once = plain_logits(loaded.model, forced)[forced.valid]
        stepped = stepped_logits(loaded, rows.inputs, forced)[forced.valid]
    return _difference(once, [stepped.float().log_softmax(-1).amax(-1).tolist()])


def _difference(logits: Tensor, generated: Sequence[Sequence[float]]) -> str | None:
    """What one pass over prompts and answers gives that `generate` did not see; None if they agree.

    Args:
        logits: [tokens, vocabulary], one pass over prompts and answers, at the columns that predict the answers.
        generated: Log-probability of each best token as `generate` saw it, in nats.
    """
    best = logits.float().log_softmax(-1).amax(-1).cpu()
    seen = torch.tensor([value for row in generated for value in row])
    difference = (best - seen).abs()
    exact = logits.dtype == torch.float32
    if (exact and float(difference.max()) > 1e-2) or float(difference.mean()) > 0.1:
        return f"one pass over prompt and answer differs from generate() by {float(difference.max()):.2g} nats"
    return None
