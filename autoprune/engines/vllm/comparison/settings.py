"""Settings of vLLM for a comparison, worked out before anything starts, and what cannot be compared."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points, packages_distributions, version
from typing import Any

from autoprune.engines.vllm.comparison.asked import EnginePrompt
from autoprune.engines.vllm.plugin import MODELS, SUPPORTED, unsupported
from autoprune.engines.vllm.refusals import not_served
from autoprune.engines.vllm.serving import OPTION, VARIABLE, Serving, named_schedule, serving_of, shortening_of
from autoprune.errors import ModelError, ScheduleError
from autoprune.models.loading import device_of, dtype_on
from autoprune.models.options import ModelOptions
from autoprune.schedule import Schedule

ENVIRONMENT: Mapping[str, str | None] = {VARIABLE: None, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""Variables of a process that runs vLLM: schedules are named one by one, and the model is in the same process."""
_LENGTH = 4096
_PLUGINS = "vllm.general_plugins"


@dataclass(frozen=True)
class EngineSettings:
    """How vLLM is started, with a schedule or without.

    Attributes:
        options: Arguments of `vllm.LLM`.
        schedule: What the model runs under; without stages = dense.
    """

    options: Mapping[str, Any]
    schedule: Schedule = field(default_factory=Schedule)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of `vllm.LLM`; a schedule beside the weights is overridden, also by one without stages."""
        overrides = {**self.options.get("hf_overrides", {}), OPTION: self.schedule.to_json_dict()}
        return {**self.options, "hf_overrides": overrides}


def check_vllm() -> str:
    """The version of vLLM that is installed here.

    Raises:
        ModelError: there is none, it is of another minor version, or it does not find the plug-in.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ModelError(
            "is not installed here",
            field="vllm",
            remedy=f"run the command where it is; or install it: pip install 'vllm=={SUPPORTED}.*'",
        )
    found = version(packages_distributions()["vllm"][0])  # builds for the CPU have another name
    problem = unsupported(found)
    if problem is not None:
        raise problem
    if "autoprune" not in entry_points(group=_PLUGINS).names:
        raise ModelError(
            "the plug-in is not among those that vLLM finds",
            field=_PLUGINS,
            remedy="install autoprune where vLLM is (pip install), not by PYTHONPATH alone",
        )
    return found


def check_served(schedule: Schedule, config: Any, images: int) -> Serving:
    """Where a schedule acts in vLLM.

    Args:
        schedule: The schedule.
        config: The model's config.
        images: The most images of a prompt.

    Raises:
        ModelError: the schedule is for another model, or vLLM serves no schedules with this one.
        ScheduleError: vLLM cannot serve it, or it drops nothing.
    """
    architecture = (getattr(config, "architectures", None) or [type(config).__name__])[0]
    if architecture not in MODELS:
        raise not_served("vLLM serves no schedules with this model", architecture, MODELS)
    setattr(config, OPTION, schedule.to_json_dict())
    try:
        found = named_schedule(config)
    finally:
        delattr(config, OPTION)
    if found is None:
        raise ScheduleError("has no stage that drops tokens", field="schedule", remedy="give one that does")
    return serving_of(found, images, shortening_of(architecture, videos_per_prompt=1))  # vLLM takes them by itself


def engine_options(
    model: str,
    loading: ModelOptions,
    config: Any,
    prompts: Sequence[EnginePrompt],
    new_tokens: int,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Arguments of `vllm.LLM` that a dense and a pruned run share.

    Args:
        model: Folder or hub name.
        loading: How the model is loaded.
        config: Its config.
        prompts: What it will be asked.
        new_tokens: The longest answer.
        given: Arguments of the user's, which win.
    """
    needed = max(prompt.length for prompt in prompts) + new_tokens + 1
    most = getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or _LENGTH
    length = int(given.get("max_model_len", min(most, max(needed, _LENGTH))))
    made: dict[str, Any] = {
        "model": model,
        "dtype": dtype_on(device_of(loading.device), loading.dtype),
        "seed": 0,
        "trust_remote_code": loading.trust_remote_code,
        "max_model_len": length,
        "max_num_batched_tokens": max(length, 2 * _LENGTH),
        "limit_mm_per_prompt": {"image": images_of(prompts)},
    }
    optional = {"revision": loading.revision, "mm_processor_kwargs": dict(loading.processor)}
    return {**made, **{name: value for name, value in optional.items() if value}, **given}


def images_of(prompts: Sequence[EnginePrompt]) -> int:
    """The most images of a prompt."""
    return max(len(prompt.images) for prompt in prompts)
