"""How a schedule is served: which one is named for a model, and whether it shortens prompts or acts between layers."""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

from autoprune.engines.vllm.shortened import BY_FEATURE, BY_PLACE
from autoprune.errors import ScheduleError, ScheduleMissingError
from autoprune.runtime.source import schedule_of
from autoprune.schedule import Reads, Schedule, Stage
from autoprune.schedule.criteria import COUNTS
from autoprune.sources import HubError

VARIABLE = "AUTOPRUNE_SCHEDULE"
OPTION = "autoprune_schedule"
"""Key of ``--hf-overrides``."""
log = logging.getLogger("autoprune")
SHORTENING: dict[str, Literal["compact", "keep"]] = {
    "LlavaForConditionalGeneration": "compact",
    "LlavaNextForConditionalGeneration": "compact",
    "Qwen2_5_VLForConditionalGeneration": "keep",
}
"""Positions of survivors in a prompt that is shorter from the start, by architecture.

Tokens in one plain row close up. Where positions come with a prompt they stay: they are needed before features are.
"""


class Serving(StrEnum):
    """Where a schedule acts."""

    PROMPTS = "prompts"
    """Where images are encoded: prompts are shorter, and everything behind is as with a shorter prompt."""
    LAYERS = "layers"
    """Between decoder layers."""


def served(model: Any) -> tuple[Schedule, Serving] | None:
    """The schedule that `resolve` found for a model, and where it acts; None if it found none.

    Nothing is looked for: in all processes of an engine a model is under the same schedule.

    Args:
        model: The engine's config of the model.

    Raises:
        ScheduleError: it cannot be read.
    """
    found = getattr(model.hf_config, OPTION, None)
    if found is None:
        return None
    schedule = Schedule.model_validate(found)
    limit = model.multimodal_config.get_limit_per_prompt
    return schedule, serving_of(schedule, limit("image"), shortening_of(model.architecture, limit("video")))


def resolve(config: Any) -> None:
    """Find the schedule of a model once, and write it whole into the model's config, which all processes are handed.

    Args:
        config: The transformers config of the model.

    Raises:
        ScheduleError, ModelError, HubError: as `named_schedule`.
    """
    schedule = named_schedule(config)
    setattr(config, OPTION, None if schedule is None else schedule.from_folder(Path.cwd()).to_json_dict())


def named_schedule(config: Any) -> Schedule | None:
    """The schedule that is named for a model, without stages that keep everything; None if none is, or nothing is left.

    It is named by the environment variable `AUTOPRUNE_SCHEDULE` (a path), by ``--hf-overrides '{"autoprune_schedule":
    ...}'`` (a path or the JSON object), or stands beside the weights as ``pruning_schedule.json``.

    Args:
        config: The transformers config of the model.

    Raises:
        ScheduleError: it cannot be read, is named twice, or cannot be served.
        ModelError: it is for another model.
        HubError: none is named, and the hub does not say whether one stands beside the weights.
    """
    variable, option = os.environ.get(VARIABLE) or None, getattr(config, OPTION, None)
    if variable is not None and option is not None:
        raise ScheduleError(
            f"is named by {VARIABLE} too ({variable})",
            field=f"--hf-overrides {OPTION}",
            value=option,
            remedy="name the schedule in one way",
        )
    try:
        schedule, _ = schedule_of(SimpleNamespace(config=config), option if variable is None else variable)
    except ScheduleMissingError as missing:
        if isinstance(missing.__cause__, HubError):
            _without_hub(missing.__cause__)
        return None
    schedule.check_model(config)
    stages = tuple(stage for stage in schedule.stages if stage.keep.ratio != 1)
    for stage in stages:
        _check_stage(stage)
    return schedule.model_copy(update={"stages": stages}) if stages else None


def is_named(config: Any) -> bool:
    """Whether somebody has named a schedule for a model; a file beside the weights is not looked for.

    Args:
        config: The transformers config of the model.
    """
    return bool(os.environ.get(VARIABLE)) or getattr(config, OPTION, None) is not None


def _without_hub(error: HubError) -> None:
    """Go on without a schedule if the hub is not to be asked.

    Raises:
        HubError: it is to be asked, and does not answer.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        raise HubError(
            f"whether a pruning schedule stands beside the weights is not known: {error.message}",
            field=error.field,
            value=error.value,
            remedy=f"name a schedule by {VARIABLE}, or try again; HF_HUB_OFFLINE=1 serves without one",
        ) from error
    log.warning("no pruning schedule acts: offline, it is not known whether one stands beside the weights (%s)", error)


def serving_of(schedule: Schedule, images_per_prompt: int, shortens: Literal["compact", "keep"] | None) -> Serving:
    """Where a schedule acts.

    Args:
        schedule: Without stages that keep everything.
        images_per_prompt: The most images that a prompt may hold.
        shortens: Positions of survivors in prompts that are shortened where images are encoded, as in `SHORTENING`;
            None = they cannot be.
    """
    first = schedule.stages[0]
    # Nothing tells later stages what a shorter prompt once was.
    alone = len(schedule.stages) == 1 and first.layer == 0 and schedule.positions == shortens
    if not alone or first.criterion is None or first.withdraws:
        return Serving.LAYERS
    by_place, one = first.criterion.name in BY_PLACE, images_per_prompt == 1
    by_feature = first.criterion.name in BY_FEATURE and one and shortens == "compact"
    return Serving.PROMPTS if by_feature or (by_place and (one or first.merge is None)) else Serving.LAYERS


def shortening_of(architecture: str, videos_per_prompt: int) -> Literal["compact", "keep"] | None:
    """Positions of survivors in prompts that are shortened where images are encoded; None = they cannot be.

    Args:
        architecture: Of the model.
        videos_per_prompt: The most videos that a prompt may hold, which are not shortened.
    """
    shortens = SHORTENING.get(architecture)
    return None if shortens == "keep" and videos_per_prompt else shortens


def asked_options(serving: Serving) -> dict[str, bool]:
    """Arguments of `vllm.LLM` that differ from its defaults, without which a schedule is refused."""
    if serving is Serving.PROMPTS:
        return {}
    return {"enable_prefix_caching": False, "enable_chunked_prefill": False, "enforce_eager": True}


def _check_stage(stage: Stage) -> None:
    where = f"the stage before layer {stage.layer}"
    if stage.keep.kind not in COUNTS:
        raise ScheduleError(
            f"{where} keeps a number of tokens that depends on scores, but an engine must know it beforehand",
            field=f"keep.{stage.keep.kind}",
            value=stage.keep.value,
            remedy="use keep.ratio or keep.count",
        )
    if stage.criterion is None or not stage.selects:
        return
    if stage.criterion.problem_at(stage.layer):
        raise ScheduleError(str(stage.criterion.problem_at(stage.layer)), field="layer", value=stage.layer)
    if stage.criterion.reads in (Reads.TOWER, Reads.LAYER_ITSELF):
        raise ScheduleError(
            f"{where} reads the {stage.criterion.reads}, which the engine does not show",
            field="criterion",
            value=stage.criterion.label,
            remedy="use attention of the layer before, diversity, codebook, uniform or random; or withdraw",
        )
