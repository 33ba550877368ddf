"""Options of vLLM with which a schedule would not be exact: each is refused at start by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from autoprune.engines.vllm.serving import Serving
from autoprune.errors import ModelError, PatchError, ScheduleError


@dataclass(frozen=True)
class RefusedOption:
    """An option of the engine, and the value that it must have.

    Attributes:
        name: As on the command line.
        path: Where its value stands in the engine's config.
        fits: Whether a value is served; what is not set is.
        why: What would go wrong.
        remedy: What to do about it.
    """

    name: str
    path: str
    fits: Callable[[Any], bool]
    why: str
    remedy: str


def _off(value: Any) -> bool:
    return not value


def _one(value: Any) -> bool:
    return value in (None, 1)


def _known_worker(value: Any) -> bool:
    return value in (None, "auto") or value in _WORKERS


def _known_scheduler(value: Any) -> bool:
    return value is None or (value if isinstance(value, str) else _path_of(value)) in _SCHEDULERS


def _path_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _no_graphs(value: Any) -> bool:
    return value is None or getattr(value, "name", value) == "NONE"


_WORKERS = ("vllm.v1.worker.cpu_worker.CPUWorker", "vllm.v1.worker.gpu_worker.Worker")
"""Workers whose model runner tells which requests a step holds."""
_SCHEDULERS = ("vllm.v1.core.sched.scheduler.Scheduler", "vllm.v1.core.sched.async_scheduler.AsyncScheduler")
"""Schedulers that run a prompt as a whole where they are asked to."""
ANYWHERE = (
    RefusedOption(
        "--enable-mm-embeds",
        "model_config.multimodal_config.enable_mm_embeds",
        _off,
        "features that are given as such pass the schedule by",
        "leave it out, and send images",
    ),
    RefusedOption(
        "--video-pruning-rate",
        "model_config.multimodal_config.video_pruning_rate",
        _off,
        "two methods would drop tokens of the same video",
        "leave it out",
    ),
    RefusedOption(
        "--runner",
        "model_config.runner_type",
        lambda value: value in (None, "auto", "generate"),
        "what is pooled over a prompt would change with its tokens",
        "serve with --runner generate",
    ),
)
PROMPTS = (
    RefusedOption(
        "--compilation-config cudagraph_mm_encoder",
        "compilation_config.cudagraph_mm_encoder",
        _off,
        "graphs of the vision tower return all features",
        "leave it out",
    ),
    RefusedOption(
        "--enable-tower-connector-lora",
        "lora_config.enable_tower_connector_lora",
        _off,
        "it counts all features of an image",
        "leave it out",
    ),
)
LAYERS = (
    RefusedOption(
        "--enable-prefix-caching",
        "cache_config.enable_prefix_caching",
        _off,
        "what deeper layers keep of a prompt depends on the whole of it, so that no other prompt may use it",
        "serve with --no-enable-prefix-caching",
    ),
    RefusedOption(
        "--enable-chunked-prefill",
        "scheduler_config.enable_chunked_prefill",
        _off,
        "a chunk does not see the whole prompt, which chooses the tokens that stay",
        "serve with --no-enable-chunked-prefill",
    ),
    RefusedOption(
        "--long-prefill-token-threshold",
        "scheduler_config.long_prefill_token_threshold",
        _off,
        "a long prompt would run in parts, none of which sees the whole prompt",
        "serve with 0",
    ),
    RefusedOption(
        "--speculative-config",
        "speculative_config",
        _off,
        "drafts are checked several tokens at a time, and taken back",
        "leave it out",
    ),
    RefusedOption(
        "--pipeline-parallel-size",
        "parallel_config.pipeline_parallel_size",
        _one,
        "a stage acts on the layers of one process",
        "serve with 1",
    ),
    RefusedOption(
        "--tensor-parallel-size",
        "parallel_config.tensor_parallel_size",
        _one,
        "attention scores need all heads, which are spread over processes",
        "serve with 1, and with --data-parallel-size for more devices",
    ),
    RefusedOption(
        "--prefill-context-parallel-size",
        "parallel_config.prefill_context_parallel_size",
        _one,
        "a prompt is spread over processes",
        "serve with 1",
    ),
    RefusedOption(
        "--decode-context-parallel-size",
        "parallel_config.decode_context_parallel_size",
        _one,
        "the cache is spread over processes",
        "serve with 1",
    ),
    RefusedOption(
        "--enable-dbo",
        "parallel_config.enable_dbo",
        _off,
        "a step is cut into two, which do not know each other's requests",
        "leave it out",
    ),
    RefusedOption(
        "--worker-cls",
        "parallel_config.worker_cls",
        _known_worker,
        "its model runner may not say which requests a step holds",
        "leave it out",
    ),
    RefusedOption(
        "--scheduler-cls",
        "scheduler_config.scheduler_cls",
        _known_scheduler,
        "it may run a prompt in parts, or use entries of the cache again",
        "leave it out",
    ),
    RefusedOption(
        "--kv-transfer-config",
        "kv_transfer_config",
        _off,
        "another process does not know which entries deeper layers hold",
        "leave it out",
    ),
    RefusedOption(
        "--kv-sharing-fast-prefill",
        "cache_config.kv_sharing_fast_prefill",
        _off,
        "two methods would leave out tokens of the same layers",
        "leave it out",
    ),
    RefusedOption(
        "--enable-lora",
        "lora_config",
        _off,
        "adapters are looked up by a token's place in the step, which changes",
        "merge the adapter into the weights",
    ),
    RefusedOption(
        "--enable-prompt-embeds",
        "model_config.enable_prompt_embeds",
        _off,
        "nothing tells which of the embeddings are visual",
        "leave it out",
    ),
    RefusedOption(
        "VLLM_USE_V2_MODEL_RUNNER",
        "use_v2_model_runner",
        _off,
        "the second model runner does not say which requests a step holds",
        "serve with VLLM_USE_V2_MODEL_RUNNER=0",
    ),
    RefusedOption(
        "--compilation-config cudagraph_mode",
        "compilation_config.cudagraph_mode",
        _no_graphs,
        "a graph always runs the same number of tokens in every layer",
        "serve with --enforce-eager",
    ),
)


def check_options(config: Any, serving: Serving) -> None:
    """Refuse options with which a schedule would not be exact.

    Args:
        config: The engine's config.
        serving: Where the schedule acts.

    Raises:
        PatchError: naming all of them, each with what to do.
    """
    rows = ANYWHERE + (PROMPTS if serving is Serving.PROMPTS else LAYERS)
    found = [row for row in rows if not row.fits(_value(config, row.path))]
    if found:
        raise PatchError(
            "; ".join(f"{row.name}: {row.why}: {row.remedy}" for row in found),
            field="vLLM",
            value=[row.name for row in found],
            remedy=None if serving is Serving.PROMPTS else _SHORTER,
        )


_SHORTER = (
    "a schedule with one stage, before layer 0, and positions 'compact' (diversity and codebook with one image per "
    "prompt: --limit-mm-per-prompt '{\"image\": 1}') shortens prompts instead, and works with all of these"
)


_DECODERS = frozenset(
    f"vllm.model_executor.models.{name}" for name in ("llama.LlamaModel", "mistral.MistralModel", "qwen2.Qwen2Model")
)
"""Decoders that do nothing but embed, run `layers(positions, hidden, residual)` one by one, and norm."""


def not_served(what: str, architecture: str, served: Iterable[str], otherwise: str = "") -> ModelError:
    """The error for a model that serves no schedules.

    Args:
        what: What is wrong with that.
        architecture: Of the model.
        served: Architectures that serve them.
        otherwise: What can be done instead of using one of these.
    """
    models = ", ".join(sorted(served))
    return ModelError(what, field="model", value=architecture, remedy=f"use a model of {models}{otherwise}")


def check_decoder(decoder: Any, compact: bool, mrope: bool) -> None:
    """Refuse decoders whose layers cannot be run one by one on fewer rows.

    Args:
        decoder: The text model as the engine runs it.
        compact: Whether survivors are renumbered.
        mrope: Whether positions have several axes.

    Raises:
        ScheduleError: survivors would be renumbered, and positions have several axes.
        ModelError: its pass is not known to be embeddings, layers and norm alone.
        PatchError: a layer sees a window.
    """
    kind = _path_of(type(decoder))
    if kind not in _DECODERS:
        raise ModelError(
            "the pass of this decoder may do more than run its layers one by one",
            field="language model",
            value=kind,
            remedy=f"use a model with one of {', '.join(sorted(_DECODERS))}; or {_SHORTER}",
        )
    if compact and mrope:
        raise ScheduleError(
            "this model does not number its tokens in one plain row, so survivors cannot be renumbered",
            field="positions",
            value="compact",
            remedy="use positions 'keep'",
        )
    layers = [layer.self_attn.attn for layer in decoder.layers]
    windows = [i for i, layer in enumerate(layers) if getattr(layer, "sliding_window", None) not in (None, -1)]
    if windows:
        raise PatchError(
            "a window counts entries of the cache, from which tokens are missing after a stage",
            field="layers with a sliding window",
            value=windows,
            remedy="use a model without sliding windows",
        )


def _value(config: Any, path: str) -> Any:
    for name in path.split("."):
        config = getattr(config, name, None)
    return config
