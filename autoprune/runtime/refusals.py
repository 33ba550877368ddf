"""Models, calls and modes in which pruning would not be exact: each is refused by a check, before compute is spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from autoprune.errors import ModelError, PatchError
from autoprune.runtime.families import Family

SUPPORTED_ATTENTION = ("eager", "sdpa")

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


_KNOWN_LAYER_TYPES = {
    "full_attention",
    "sliding_attention",
    "chunked_attention",
    "linear_attention",
    "conv",
    "mlp",
    "moe",
}
"""What a layer may keep of earlier tokens: all keys and values, those of a window, one recurrent state, or nothing."""


def check_model(model: nn.Module) -> None:
    """Refuse models that read the image through an encoder instead of having it in their sequence.

    Raises:
        ModelError: it is an encoder-decoder model.
    """
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise _refused(
            model, "the image goes into an encoder, and the decoder reads it by cross-attention", "an encoder"
        )


def check_structure(decoder: nn.Module) -> None:
    """Refuse decoders that see images by other ways than their sequence, or in which layers share what pruning cuts.

    Raises:
        ModelError: naming the part.
    """
    for name, part in decoder.named_modules():
        if _is_cross_attention(name.rpartition(".")[2], part):
            raise _refused(part, "it sees the image by cross-attention, not as tokens", "cross-attention")
    config: Any = getattr(decoder, "config", None)
    if getattr(config, "num_kv_shared_layers", 0):
        raise _refused(decoder, "layers read keys and values that an earlier, unpruned layer computed", "KV sharing")
    if hasattr(decoder, "altup_projections"):
        raise _refused(decoder, "its layers pass several hidden states at once", "alternating updates")
    unknown = sorted(set(getattr(config, "layer_types", None) or ()) - _KNOWN_LAYER_TYPES)
    if unknown:
        raise _refused(
            decoder,
            "what they read depends on more than the keys and values of the tokens that are left",
            f"layers of type {', '.join(unknown)}",
        )


def _is_cross_attention(name: str, part: nn.Module) -> bool:
    kind = type(part).__name__.lower()
    return name == "encoder_attn" or any("cross" in word and "att" in word for word in (name.lower(), kind))


def check_layer(layer: nn.Module, i: int, family: Family) -> None:
    """Refuse a layer that has neither self-attention nor a known recurrent mixer that ignores zeros.

    Raises:
        ModelError: naming the layer.
    """
    if not any(hasattr(layer, name) for name in (family.attention, *family.recurrent)):
        raise ModelError(
            f"decoder layer {i} ({type(layer).__name__}) has no {family.attention}",
            field="model",
            value=type(layer).__name__,
            remedy="add the family to autoprune/runtime/families.py, and check it with `autoprune doctor`",
        )
    for mixer in (getattr(layer, name) for name in family.recurrent if hasattr(layer, name)):
        entries = (part for name, part in mixer.named_children() if name.startswith("in_proj"))
        if any(getattr(entry, "bias", None) is not None for entry in entries):
            raise _refused(
                mixer,
                "padding, and what fills up a ragged batch, would leave a trace in its state",
                "biases at the entry of a recurrent layer",
            )


def _refused(part: nn.Module, why: str, what: str) -> ModelError:
    return ModelError(
        f"visual tokens cannot be pruned exactly in a decoder with {what}: {why}",
        field="model",
        value=type(part).__name__,
        remedy="use a decoder-only multimodal model without it, such as LLaVA, Qwen-VL or InternVL",
    )


def check_attention(decoder: nn.Module) -> None:
    """Refuse attention implementations whose masks cannot express pruned layers.

    Raises:
        ModelError: the decoder runs something else than eager or sdpa attention.
    """
    parts: Any = decoder
    implementation = parts.config._attn_implementation
    if implementation not in SUPPORTED_ATTENTION:
        raise ModelError(
            "pruning is proven exact with eager and sdpa attention only",
            field="attn_implementation",
            value=implementation,
            remedy='call model.set_attn_implementation("sdpa"), which runs flash kernels where no mask is needed',
        )


def check_mask(visual_mask: Any) -> None:
    """Refuse anything that says which positions are visual in another form than apply() reads.

    Raises:
        PatchError: neither a tensor nor a callable.
    """
    if not (visual_mask is None or isinstance(visual_mask, Tensor) or callable(visual_mask)):
        raise PatchError(
            "must be a bool tensor [batch, seq], or a callable (input_ids, inputs_embeds) -> mask",
            field="visual_mask",
            value=type(visual_mask).__name__,
            remedy="make it a tensor: torch.tensor(mask)",
        )


def check_checkpointing(decoder: nn.Module) -> None:
    """Refuse gradient checkpointing where it would run the hooks of a layer a second time in the backward pass.

    Raises:
        ModelError: the installed transformers checkpoints the call of a layer, hooks included, not its forward.
    """
    layers: Any = decoder.layers
    inside = any(type(layer).__call__ is not nn.Module.__call__ for layer in layers)
    if inside and decoder.training and any(getattr(m, "gradient_checkpointing", False) for m in decoder.modules()):
        raise ModelError(
            "this release of transformers repeats pruning when it recomputes a checkpointed layer",
            field="gradient_checkpointing",
            value=True,
            remedy="train without checkpointing, or with a release that checkpoints the forward of a layer (5.23 does)",
        )


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


def ended_elsewhere() -> PatchError:
    """The error of a plain call beside `patch.prompt` in another thread: whether it holds an answer is not known."""
    return PatchError(
        "where the prompt ends was said in another thread",
        field="patch.prompt",
        remedy="enter patch.prompt(lengths) in the thread that calls the model",
    )


def answer_lost(k: int) -> PatchError:
    """The error for a stage that would drop the token from which the answer is read."""
    return PatchError(
        "the last prompt token is visual and would be dropped, but the answer is read from it",
        field=f"stage before layer {k}",
        remedy="put the question after the image",
    )


def not_finite(what: str) -> PatchError:
    """The error for NaN or infinity in what a stage chooses by, or among."""
    return PatchError(f"{what} are not finite", field="model", remedy="check the model's weights, inputs and precision")


def unobserved(i: int) -> PatchError:
    """The error for an attention call that did not pass through transformers' attention interface."""
    return PatchError(
        f"the attention of layer {i} could not be observed",
        field="criterion",
        value="attention",
        remedy="this architecture does not call transformers' attention interface; use diversity or withdraw",
    )
