"""What cannot be compiled, refused before compute is spent: schedules, models, and the layers of their decoders."""

from __future__ import annotations

from typing import Any

from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from autoprune.errors import ModelError, ScheduleError
from autoprune.schedule import PluginCriterion, Reads, Schedule
from autoprune.schedule.criteria import COUNTS

_DECODERS = {"llama": LlamaDecoderLayer, "qwen2": Qwen2DecoderLayer}
"""Layers that the graphs know, by the model type of the text model."""
_CHANGING_ROPE = ("dynamic", "longrope")
_WINDOWS = ("sliding_attention", "chunked_attention")
_REMEDY = "use the schedule with autoprune.apply and transformers"


def check_schedule(schedule: Schedule) -> None:
    """Refuse a schedule that cannot be one static graph.

    Raises:
        ScheduleError: naming the field of the first stage that cannot.
    """
    for i, stage in enumerate(schedule.stages):
        if stage.keep.kind not in COUNTS:
            raise ScheduleError(
                "the number of tokens would depend on the scores of an input, and a compiled graph has fixed ones",
                field=f"stages[{i}].keep.{stage.keep.kind}",
                value=stage.keep.value,
                remedy="use keep.ratio or keep.count",
            )
        criterion = stage.criterion if stage.selects else None
        if criterion is None:
            continue
        if isinstance(criterion, PluginCriterion) or criterion.reads is Reads.TOWER:
            why = "is code of another package" if isinstance(criterion, PluginCriterion) else "reads the vision tower"
            raise ScheduleError(
                f"{why}, which the compiled graphs do not hold",
                field=f"stages[{i}].criterion.name",
                value=criterion.name,
                remedy="use attention, diversity, codebook, random or uniform",
            )


def check_config(config: Any) -> None:
    """Refuse a model whose decoder the graphs do not know.

    Raises:
        ModelError: naming the field of the text model's config.
    """
    text = config.get_text_config(decoder=True)
    if text.model_type not in _DECODERS:
        raise ModelError(
            "the text model is no Llama and no Qwen2, whose layers alone are compiled",
            field="text_config.model_type",
            value=text.model_type,
            remedy=_REMEDY,
        )
    rope = (getattr(text, "rope_parameters", None) or {}).get("rope_type", "default")
    windows = sorted(set(getattr(text, "layer_types", None) or ()) & set(_WINDOWS))
    for field, value, why in (
        ("rope_parameters.rope_type", rope if rope in _CHANGING_ROPE else None, "the positions of a token change"),
        ("layer_types", windows or None, "a window counts dropped tokens"),
    ):
        if value is not None:
            raise ModelError(
                f"{why} with the length of the prompt, which a compiled graph cannot follow",
                field=f"text_config.{field}",
                value=value,
                remedy=_REMEDY,
            )


def check_layers(decoder: Any) -> None:
    """Refuse a text model whose layers are others than transformers' own of its model type.

    Raises:
        ModelError: naming the class of the first such layer.
    """
    known = _DECODERS[decoder.config.model_type]
    for i, layer in enumerate(decoder.layers):
        if type(layer) is not known:
            raise ModelError(
                f"decoder layer {i} is no {known.__name__}, the only one that is compiled",
                field="model",
                value=type(layer).__name__,
                remedy=_REMEDY,
            )
