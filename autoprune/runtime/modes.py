"""Ways to run a model in which pruning would not be exact: each is refused by a check, before compute is spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import nn

from autoprune.errors import ModelError, PatchError

_REFUSED_OPTIONS = {
    "prefill_chunk_size": "chunked prefill cannot be pruned: a chunk does not see the whole prompt",
    "assistant_early_exit": "drafts of an early exit cannot be pruned: they stop before the layers of later stages",
    "use_mtp": "drafts of multi-token prediction are not checked: their layers come after the decoder's",
    "speculation_type": "drafts from hidden states are not checked",
}
REFUSED_METHODS = {
    "init_continuous_batching": "continuous batching cannot be pruned: it packs several requests into one sequence",
    "_replicate_for_data_parallel": "replicas of DataParallel cannot be pruned: one patch serves one model",
}


def refuse_options(call: Mapping[str, Any], default: Any) -> None:
    """Refuse a generate() call in a mode that is not exact.

    Args:
        call: Arguments of generate(), by name.
        default: The model's own generation config, which fills what the call leaves open.

    Raises:
        PatchError: naming the option.
    """
    for name, why in _REFUSED_OPTIONS.items():
        configs = (call.get("generation_config"), default)
        wanted = next((v for v in (call.get(name), *(getattr(c, name, None) for c in configs)) if v), None)
        if wanted:
            raise PatchError(why, field=name, value=wanted, remedy="leave it out")


def refuse_method(name: str, *_: Any, **__: Any) -> NoReturn:
    """Stands in for a method that would go around the patch.

    Raises:
        PatchError: always.
    """
    raise PatchError(REFUSED_METHODS[name], field=name, remedy="call generate() on the patched model itself")


def check_pass(call: Mapping[str, Any]) -> None:
    """Refuse a forward pass that is recorded as a program, or that packs samples into one sequence.

    Args:
        call: Arguments of the decoder, by name.

    Raises:
        PatchError: naming what is asked for.
    """
    if torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None:
        raise PatchError(
            "an exported program cannot be pruned: which tokens are dropped depends on the image",
            field="torch.export",
            remedy="remove the patch before exporting",
        )
    packed = next((name for name, value in call.items() if name.startswith("cu_seq_lens") and value is not None), None)
    if packed:
        raise PatchError(
            "packed sequences cannot be pruned: a row holds several samples",
            field=packed,
            remedy="pass a padded batch with its attention_mask",
        )


def check_whole(model: nn.Module) -> None:
    """Refuse a model that is split over processes: each would score with its own part of the heads.

    Raises:
        ModelError: its parameters are sharded.
    """
    shards = getattr(model, "_tp_size", None) or 1
    wrapped = any(type(m).__name__ == "FullyShardedDataParallel" for m in model.modules())
    if shards > 1 or wrapped or any(hasattr(p, "device_mesh") for p in model.parameters()):
        raise ModelError(
            "models sharded over processes are not checked: tensor parallel, fully sharded",
            field="model",
            value=type(model).__name__,
            remedy="load the whole model in one process; device_map may spread it over devices",
        )
