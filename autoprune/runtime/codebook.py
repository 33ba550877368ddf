"""Reading a codebook of redundant visual tokens from disk, checked before any use."""

from __future__ import annotations

import hashlib
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from autoprune.errors import PatchError
from autoprune.schedule import CodebookCriterion


def read_prototypes(criterion: CodebookCriterion, width: int) -> Tensor:
    """The prototypes [P, d] of a codebook.

    Args:
        criterion: Names the file and its digest.
        width: Hidden size of the model that is to use it.

    Raises:
        PatchError: the file is missing, is another one than the schedule was made with, or does not fit the model.
    """
    path = Path(criterion.path)
    if not path.is_file():
        raise PatchError(
            "there is no such codebook",
            field="criterion.path",
            value=criterion.path,
            remedy="make one with `autoprune codebook`, or run where the path of the schedule leads to it",
        )
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != criterion.sha256:
        raise PatchError(
            "this is another codebook than the one the schedule was made with",
            field="criterion.sha256",
            value=criterion.sha256,
            remedy=f"use the file with that digest, or make the schedule anew with {criterion.path}",
        )
    try:
        prototypes = load(content).get("prototypes")
    except SafetensorError as error:
        raise PatchError(f"is no safetensors file: {error}", field="criterion.path", value=criterion.path) from None
    if prototypes is None or prototypes.ndim != 2 or prototypes.shape[1] != width or len(prototypes) == 0:
        found = None if prototypes is None else tuple(prototypes.shape)
        raise PatchError(
            f"needs a tensor 'prototypes' [P, {width}] for this model, the file has {found}",
            field="criterion.path",
            value=criterion.path,
            remedy="make the codebook with this model",
        )
    return prototypes
