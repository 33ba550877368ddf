"""A codebook of redundant visual tokens on disk: written, and read again with every check before any use."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from autoprune.errors import ScheduleError
from autoprune.runtime.projector import projector_digest
from autoprune.schedule import CodebookCriterion
from autoprune.schedule.bundle import codebook_content
from autoprune.schedule.files import write_whole

FORMAT, VERSION = "autoprune.codebook", 1


def write_prototypes(path: Path, prototypes: Tensor, projector: str | None) -> CodebookCriterion:
    """Save a codebook, its projector's digest in the header, and return the criterion that uses it.

    Args:
        path: The file.
        prototypes: [P, d].
        projector: What `projector_digest` gave for the model it was made with.
    """
    header = {"format": FORMAT, "version": str(VERSION)}
    if projector is not None:
        header["projector_sha256"] = projector
    content = _in_order(save({"prototypes": prototypes.contiguous()}, metadata=header))
    write_whole(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return CodebookCriterion(path=str(path), sha256=digest, prototypes=len(prototypes))


def read_prototypes(criterion: CodebookCriterion, width: int, model: nn.Module) -> Tensor:
    """The prototypes [P, d] of a codebook.

    Args:
        criterion: Names the file and its digest.
        width: Hidden size of the model that is to use it.
        model: That model. A text model alone has no projector that could be compared.

    Raises:
        ScheduleError: the file is missing, is another one than the schedule was made with, is of another format or
            version, holds other prototypes than the schedule says or no finite ones, or does not fit the model.
    """
    content = codebook_content(criterion)
    prototypes = load(content).get("prototypes")
    _check_header(criterion, _header(content))
    found = None if prototypes is None else tuple(prototypes.shape)
    if prototypes is None or prototypes.ndim != 2 or prototypes.shape[1] != width or len(prototypes) == 0:
        raise ScheduleError(
            f"needs a tensor 'prototypes' [P, {width}] for this model, the file has {found}",
            field="criterion.path",
            value=criterion.path,
            remedy="make the codebook with this model",
        )
    _check_prototypes(criterion, prototypes)
    _check_projector(criterion, content, model)
    return prototypes


def _check_header(criterion: CodebookCriterion, header: dict[str, str]) -> None:
    # A file of bare tensors, without our header, may be written by hand.
    for key, wanted in (("format", FORMAT), ("version", str(VERSION))):
        if header.get(key, wanted) != wanted:
            raise ScheduleError(
                f"is no codebook of {FORMAT} {VERSION}: its {key} is {header[key]}",
                field="criterion.path",
                value=criterion.path,
                remedy="make the codebook anew, or update autoprune",
            )


def _check_prototypes(criterion: CodebookCriterion, prototypes: Tensor) -> None:
    if criterion.prototypes not in (None, len(prototypes)):
        raise ScheduleError(
            f"the file holds {len(prototypes)}, so that the price of the schedule is not that of its codebook",
            field="criterion.prototypes",
            value=criterion.prototypes,
            remedy=f"write {len(prototypes)}, or leave it out",
        )
    if not prototypes.is_floating_point():
        wrong = f"prototypes must be floating-point numbers, the file has {prototypes.dtype}"
    elif not bool(torch.isfinite(prototypes.float()).all()):
        wrong = "holds prototypes that are not finite"
    else:
        return
    raise ScheduleError(wrong, field="criterion.path", value=criterion.path, remedy="make the codebook anew")


def _check_projector(criterion: CodebookCriterion, content: bytes, model: nn.Module) -> None:
    wanted = _header(content).get("projector_sha256")
    if wanted is None:
        return
    found = projector_digest(model)
    if found is not None and found != wanted:
        raise ScheduleError(
            "was made with another vision tower or projector than this model's",
            field="criterion.path",
            value=criterion.path,
            remedy="make a codebook with this model: `autoprune codebook`",
        )


def _in_order(content: bytes) -> bytes:
    """The same file with its header sorted: safetensors writes metadata in any order, and a digest must not change."""
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _header(content: bytes) -> dict[str, str]:
    """Metadata of a safetensors file: JSON after eight bytes that say how long it is."""
    length = int.from_bytes(content[:8], "little")
    header: dict[str, str] = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    return header
