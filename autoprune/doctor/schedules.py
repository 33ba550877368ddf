"""Schedules to examine a model under when the user has none: together they use every part of the runtime."""

from __future__ import annotations

from typing import Any

from autoprune.doctor.prompts import Prompt
from autoprune.errors import PatchError
from autoprune.runtime import apply
from autoprune.runtime.decoder import attention_of, decoder_layers, find_decoder
from autoprune.schedule import Schedule

_ALL = 10**9
_CHANCE: dict[str, Any] = {"name": "random", "seed": 0}


def keep_everything(model: Any) -> Schedule:
    """A stage before every layer, scored wherever there is attention to read, which keeps all tokens."""
    scored = _has_attention(model)
    stages = []
    for k in range(len(scored)):
        criterion = {"name": "attention", "rows": "last"} if k and scored[k - 1] else {"name": "uniform"}
        stages.append({"layer": k, "keep": {"count": _ALL}, "criterion": criterion})
    return Schedule.model_validate({"stages": stages})


def default_schedules(model: Any, prompt: Prompt) -> dict[str, Schedule | str]:
    """By name: a schedule, or why it is not for this model."""
    return {name: _possible(model, made, prompt) for name, made in _designed(_has_attention(model)).items()}


def _designed(scored: list[bool]) -> dict[str, Schedule | str]:
    """The schedules for layers that have attention or have none."""
    depth = len(scored)
    shallow = f"the decoder has {depth} layers, which is too few"
    found: dict[str, Schedule | str] = {}
    first = next((k for k in range(max(1, depth // 4), depth) if scored[k - 1]), None)
    second = next((k for k in range(max(depth // 2, (first or depth) + 1), depth) if scored[k]), None)
    if not any(scored):
        found["by attention"] = "no decoder layer has attention"
    elif first is None or second is None:
        found["by attention"] = shallow
    else:
        found["by attention"] = _schedule(
            (first, 0.5, {"name": "attention", "rows": "text"}),
            (second, 0.2, {"name": "attention", "rows": "last", "at": "current"}),
        )
    found["withdrawal"] = _schedule((depth // 2, 0.0, None)) if depth > 1 else shallow
    found["from layer 0"] = _schedule((0, 0.5, {"name": "uniform"}), *([(depth - 1, 0.25, _CHANCE)] * (depth > 1)))
    return found


def _possible(model: Any, schedule: Schedule | str, prompt: Prompt) -> Schedule | str:
    if isinstance(schedule, str):
        return schedule
    try:
        apply(model, schedule, prompt.mask).remove()
    except PatchError as error:
        return str(error)
    return schedule


def _schedule(*stages: tuple[int, float, dict[str, Any] | None]) -> Schedule:
    entries = []
    for layer, ratio, criterion in stages:
        entry: dict[str, Any] = {"layer": layer, "keep": {"ratio": ratio}}
        entries.append(entry if criterion is None else {**entry, "criterion": criterion})
    return Schedule.model_validate({"stages": entries})


def _has_attention(model: Any) -> list[bool]:
    decoder = find_decoder(model)
    return [attention_of(decoder, layer) is not None for layer in decoder_layers(decoder)]
