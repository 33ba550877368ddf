"""Checks before a worker starts: that the model serves schedules, and that no option makes one inexact."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any

from autoprune.engines.vllm.refusals import check_options, not_served
from autoprune.engines.vllm.serving import Serving, is_named, named_schedule, resolve, served
from autoprune.errors import ModelError
from autoprune.sources import HubError

_STEPS_AT_ONCE = 2
"""Steps whose images are held at a time: the next step is scheduled before those of the last one are given back."""
log = logging.getLogger("autoprune")


def check_config(config: Any) -> None:
    """Refuse what a schedule does not go with, and make room for the images of whole prompts.

    Args:
        config: The engine's config.

    Raises:
        ScheduleError: the schedule cannot be read.
        PatchError: an option would make it inexact.
    """
    found = served(config.model_config)
    if found is None:
        return
    check_options(config, found[1])
    if found[1] is Serving.LAYERS:
        # Where there is no room for an image, the engine would run the part of the prompt before it.
        scheduler = config.scheduler_config
        room = _STEPS_AT_ONCE * scheduler.max_num_batched_tokens
        scheduler.encoder_cache_size = max(scheduler.encoder_cache_size, room)


def checked(other: Any) -> Any:
    """A hook of vLLM that finds the schedule of a model, and checks the engine's config.

    Args:
        other: The hook that the architecture has already; None = none.
    """

    class Checked(other or object):  # type: ignore[misc]  # vLLM asks for a class
        @staticmethod
        def verify_and_update_config(vllm_config: Any) -> None:
            if other is not None:
                other.verify_and_update_config(vllm_config)
            check_config(vllm_config)

        @staticmethod
        def verify_and_update_model_config(model_config: Any) -> None:
            if other is not None:
                other.verify_and_update_model_config(model_config)
            if not _is_draft(model_config):
                resolve(model_config.hf_config)

    return Checked


def guard(registry: Any, architectures: Collection[str], problem: ModelError | None = None) -> None:
    """From now on a model that does not serve schedules is refused if there is one for it.

    Args:
        registry: vLLM's registry of models.
        architectures: Those that serve them.
        problem: Why no model does; None = those do.
    """
    inspect = registry.inspect_model_cls

    def inspected(given: Any, *rest: Any) -> Any:  # the config of the model; in old versions nothing
        info, architecture = inspect(given, *rest)
        for model_config in rest[:1]:
            if architecture in architectures or _is_draft(model_config):
                continue
            sees = getattr(info, "supports_multimodal", False)
            if is_named(model_config.hf_config) or (sees and _stands_beside(model_config.hf_config)):
                raise problem or not_served(
                    "a pruning schedule is named, but this model does not serve any",
                    architecture,
                    architectures,
                    ", or name no schedule",
                )
        return info, architecture

    registry.inspect_model_cls = inspected


def _is_draft(model_config: Any) -> bool:
    """Whether a model only proposes tokens, which the model under the schedule checks."""
    return getattr(model_config, "runner", None) == "draft"


def _stands_beside(config: Any) -> bool:
    try:
        return named_schedule(config) is not None
    except HubError as error:  # the model is served without a schedule whatever the hub says
        log.warning("%s", error)
        return False
