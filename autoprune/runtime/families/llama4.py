"""Llama 4: `get_decoder()` stops at the causal language model, whose `model` has the layers."""

from __future__ import annotations

from typing import Any

from torch import nn

from autoprune.runtime.families.family import Family


def _text_model(model: Any) -> nn.Module:
    causal = getattr(model, "language_model", model)
    found: nn.Module = getattr(causal, "model", causal)
    return found


LLAMA4 = Family(decoder=_text_model)
