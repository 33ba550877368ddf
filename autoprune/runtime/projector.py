"""Digest of vision tower and projector: a codebook fits those that it was made with, and no others."""

from __future__ import annotations

import hashlib
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.decoder import find_decoder

_KNOWN: WeakKeyDictionary[nn.Module, str | None] = WeakKeyDictionary()


def projector_digest(model: nn.Module) -> str | None:
    """sha256 over all weights between pixels and the decoder (tower and projector); None if the model has none.

    Over values rounded to bfloat16, so that it is the same in float32 and in bfloat16. Worked out once for each model:
    weights that change later are not noticed.

    Raises:
        PatchError: weights are not in memory.
    """
    if model not in _KNOWN:
        _KNOWN[model] = _digest(model, find_decoder(model))
    return _KNOWN[model]


def _digest(model: nn.Module, decoder: nn.Module) -> str | None:
    head = getattr(model, "get_output_embeddings", lambda: None)()
    rest = {id(p) for part in (decoder, head) if isinstance(part, nn.Module) for p in part.parameters()}
    weights = [p for p in model.parameters() if id(p) not in rest]
    if not weights:
        return None
    total = hashlib.sha256()
    for weight in weights:
        if weight.is_meta:
            raise PatchError(
                "its projector is offloaded, so that the codebook cannot be compared with it",
                field="model",
                remedy="load vision tower and projector into memory",
            )
        total.update(f"{tuple(weight.shape)}".encode())
        total.update(_bytes(weight.detach()))
    return total.hexdigest()


def _bytes(weight: Tensor) -> bytes:
    values = weight.to(torch.bfloat16) if weight.is_floating_point() else weight
    content: bytes = values.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return content
