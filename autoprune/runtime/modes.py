"""Ways to run a model in which pruning would not be exact: each is refused by a check, before compute is spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import nn

from autoprune.errors import ModelError, PatchError

_REFUSED_OPTIONS = {
    "cache_implementation": "survivors cannot be held by this kind of cache",
    "prefill_chunk_size": "chunked prefill cannot be pruned: a chunk does not see the whole prompt",
    "assistant_early_exit": "drafts of an early exit cannot be pruned: they stop before the layers of later stages",
    "use_mtp": "drafts of multi-token prediction are not checked: their layers come after the decoder's",
    "speculation_type": "drafts from hidden states are not checked",
}
_REFUSED_VALUES = {"cache_implementation": ("quantized", "paged")}
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
        if wanted and wanted in _REFUSED_VALUES.get(name, (wanted,)):
            raise PatchError(why, field=name, value=wanted, remedy="leave it out")


def refuse_method(name: str, *_: Any, **__: Any) -> NoReturn:
    """Stands in for a method that would go around the patch.

    Raises:
        PatchError: always.
    """
    raise PatchError(REFUSED_METHODS[name], field=name, remedy="call generate() on the patched model itself")


def check_pass(call: Mapping[str, Any], config: Any) -> None:
    """Refuse a pass that is recorded as a program, packs samples into one sequence, or is asked for router logits.

    Args:
        call: Arguments of the decoder, by name.
        config: Its config, which fills what the call leaves open.

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
    asked = call.get("output_router_logits")
    if getattr(config, "output_router_logits", False) if asked is None else asked:
        raise PatchError(
            "router logits of pruned layers cover the survivors only, and an auxiliary loss would take them for all",
            field="output_router_logits",
            value=True,
            remedy="set it to False in the call and in the text model's config",
        )


def check_places(config: Any, columns: int) -> None:
    """Refuse a prefill in which a layer would take the row of a survivor for its place in the sequence.

    Layers without rotary positions may sharpen their attention the further a token stands back (Llama 4); they count
    the rows that they are given. Up to a first step of `floor_scale` tokens all weigh the same.

    Args:
        config: Config of the decoder.
        columns: Length of the sequence, with what is cached.

    Raises:
        PatchError: the sequence is too long.
    """
    if not getattr(config, "attn_temperature_tuning", False) or all(config.no_rope_layers):
        return
    if columns >= config.floor_scale:
        raise PatchError(
            "the layers without positions scale attention by the number of a row, which pruning changes",
            field="length of the prompt",
            value=columns,
            remedy=f"keep prompts below {config.floor_scale} tokens (floor_scale of the model's config)",
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
