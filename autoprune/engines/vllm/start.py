"""Checks before a worker starts: that the model serves schedules, and that no option makes one inexact."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from autoprune.engines.vllm.refusals import check_options
from autoprune.engines.vllm.serving import named_schedule, served
from autoprune.errors import ModelError


def check_config(config: Any) -> None:
    """Refuse what a schedule does not go with.

    Args:
        config: The engine's config.

    Raises:
        ScheduleError: the schedule cannot be read or served.
        ModelError: it is for another model.
        PatchError: an option would make it inexact.
    """
    found = served(config.model_config)
    if found is not None:
        check_options(config, found[1])


def checked(other: Any) -> Any:
    """A hook of vLLM that checks the engine's config.

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

    return Checked


def guard(registry: Any, architectures: Collection[str]) -> None:
    """From now on a model that does not serve schedules is refused if one is named for it.

    Args:
        registry: vLLM's registry of models.
        architectures: Those that serve them.
    """
    inspect = registry.inspect_model_cls

    def inspected(given: Any, model_config: Any) -> Any:
        info, architecture = inspect(given, model_config)
        if architecture not in architectures and named_schedule(model_config.hf_config) is not None:
            raise ModelError(
                "a pruning schedule is named, but this model does not serve any",
                field="model",
                value=architecture,
                remedy=f"use a model of {', '.join(sorted(architectures))}, or name no schedule",
            )
        return info, architecture

    registry.inspect_model_cls = inspected
