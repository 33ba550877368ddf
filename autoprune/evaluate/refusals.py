"""Models whose answers teacher forcing cannot check, and settings that are refused; each is named."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_CUT = {"full_attention", "sliding_attention", "chunked_attention", "conv", "linear_attention"}
"""Kinds of layers whose cache can be cut back to what it was before a token."""


def why_unforced(model: Any) -> str | None:
    """Why answers of a model cannot be checked by teacher forcing, as far as its structure says; None if nothing does.

    Its layers must have caches that rejected tokens of the dense answer can be taken out of, and one pass over prompts
    and answers must put tokens where ``generate()`` would.
    """
    others = set(getattr(model.config.get_text_config(decoder=True), "layer_types", None) or ()) - _CUT
    if others:
        return f"it has layers ({', '.join(sorted(others))}) in which a rejected token would still count"
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return "its forward pass takes no position ids"
    return None


def forcing_error(logits: Tensor, generated: Sequence[Sequence[float]]) -> str | None:
    """What one pass over prompts and answers gives that `generate` did not see; None if they agree.

    Args:
        logits: [tokens, vocabulary], one pass over prompts and answers, at the columns that predict the answers.
        generated: Log-probability of each token of each answer as `generate` saw it, in nats.
    """
    best = logits.float().log_softmax(-1).amax(-1).cpu()
    seen = torch.tensor([value for row in generated for value in row])
    difference = (best - seen).abs()
    exact = logits.dtype == torch.float32
    if (exact and float(difference.max()) > 1e-2) or float(difference.mean()) > 0.1:
        return f"one pass over prompt and answer differs from generate() by {float(difference.max()):.2g} nats"
    return None
