"""A model in vLLM under a schedule beside the dense one: requests per second, and time to the first token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import fmean
from typing import Any

import torch

from autoprune.data.synthetic import synthetic_sample
from autoprune.engines.vllm.comparison.asked import EnginePrompt, engine_prompts
from autoprune.engines.vllm.comparison.process import Ask
from autoprune.engines.vllm.comparison.settings import EngineSettings, check_served, check_vllm, engine_options
from autoprune.engines.vllm.comparison.sides import Say, in_vllm, silent
from autoprune.engines.vllm.comparison.vllm_side import EngineRound
from autoprune.engines.vllm.serving import asked_options
from autoprune.evaluate.timing import Spread, take_turns
from autoprune.models.config import read_config
from autoprune.models.options import ModelOptions
from autoprune.models.processors import load_processor
from autoprune.presets import resolve
from autoprune.sources import hub_or_cache

DEFINITIONS = {
    "first_token_ms": "from the arrival of a batch to the first token of a request, mean over the batch; pixels, "
    "vision tower and waiting for the others included",
    "requests_per_s": "requests of a batch over the time from their arrival to the end of the last one",
    "output_tokens_per_s": "tokens of all answers over the same time",
    "ratio": "pruned / dense, round by round",
}
_QUESTION = "What is in the image?"
_SHARE = 0.45
"""Of a GPU's memory, for each of two models that take turns."""


@dataclass(frozen=True)
class EngineArm:
    """Figures of one model in vLLM; each has the spread over rounds."""

    first_token_ms: Spread
    requests_per_s: Spread
    output_tokens_per_s: Spread


@dataclass(frozen=True)
class EngineSetting:
    """One number of requests that arrive together.

    Attributes:
        requests: How many.
        dense: Figures of the dense model.
        pruned: Of the model under the schedule.
        first_token_ratio: Time to the first token, pruned / dense.
        requests_ratio: Requests per second, pruned / dense; that of output tokens is the same.
    """

    requests: int
    dense: EngineArm
    pruned: EngineArm
    first_token_ratio: Spread
    requests_ratio: Spread


@dataclass(frozen=True)
class EngineBenchmark:
    """Results of a benchmark in vLLM.

    Attributes:
        vllm: Its version.
        serving: Where the schedule acts in vLLM.
        prompt_tokens: Tokens of a prompt, visual ones included.
        tokens: In each layer under the schedule.
        machine: Names of CPU and GPU, cores and threads.
        options: Arguments of `vllm.LLM` of both models.
        not_measured: Why something is missing, by its name.
        settings: One for each number of requests.
    """

    vllm: str
    serving: str
    prompt_tokens: int
    tokens: list[int]
    machine: dict[str, Any]
    options: dict[str, Any]
    not_measured: dict[str, str]
    settings: list[EngineSetting]

    def to_dict(self) -> dict[str, Any]:
        """The benchmark as a JSON object."""
        return {**asdict(self), "definitions": DEFINITIONS}


@dataclass(frozen=True)
class EngineBenchPlan:
    """What is timed.

    Attributes:
        schedule: Name of a preset, or a schedule file.
        requests: Numbers of requests that arrive together.
        new_tokens: Tokens of each answer.
        repeats: Timed rounds; in each, both models run once, on images that they have not seen.
        warmup: Rounds before them that are not timed.
        random_init: Whether weights are random.
    """

    schedule: str
    requests: Sequence[int]
    new_tokens: int
    repeats: int
    warmup: int
    random_init: bool = False

    @property
    def rounds(self) -> int:
        """All rounds of one setting."""
        return self.warmup + self.repeats


def benchmark_engine(
    model: str,
    loading: ModelOptions,
    plan: EngineBenchPlan,
    given: Mapping[str, Any],
    say: Say = silent,
) -> EngineBenchmark:
    """Time a model in vLLM, dense and pruned in turn; each is in a process of its own.

    Args:
        model: Folder or hub name.
        loading: How it is loaded.
        plan: What is timed.
        given: Arguments of `vllm.LLM` of the user's.
        say: Called with a description of what is about to run.

    Raises:
        ModelError: vLLM is missing or of another version, or does not serve schedules with this model.
        ScheduleError: vLLM cannot serve the schedule.
        EngineError: an engine fails.
    """
    version = check_vllm()
    config = read_config(model, options=loading)
    schedule = resolve(plan.schedule, config.get_text_config(decoder=True).num_hidden_layers)
    serving = check_served(schedule, config, 1)
    with hub_or_cache(model):
        processor = load_processor(model, config, loading)
    prompts = _prompts(processor, config, max(plan.requests) * plan.rounds)
    options = engine_options(model, loading, config, prompts, plan.new_tokens, given)
    options = {**asked_options(serving), **options}
    if torch.cuda.is_available():
        options = {"gpu_memory_utilization": _SHARE, **options}
    if plan.random_init:
        options = {"load_format": "dummy", **options}
    dense = EngineSettings(options)
    with ExitStack() as stack:
        sides: dict[str, Ask] = {}
        for name, settings in (("dense", dense), ("pruned", replace(dense, schedule=schedule))):
            sides[name] = stack.enter_context(in_vllm(f"vLLM, {name}", settings, say))
        machine = sides["pruned"]("place")
        tokens = sides["pruned"]("answers", prompts[:1], 1)[0].lengths
        timed = [_setting(sides, prompts, count, plan, say) for count in plan.requests]
    missing = {"memory": "vLLM takes the memory of its cache at start, pruned or not"}
    if machine["gpu"] is None:
        missing["GPU"] = "none was used"
    return EngineBenchmark(version, serving.value, prompts[0].length, list(tokens), machine, options, missing, timed)


def _prompts(processor: Any, config: Any, count: int) -> list[EnginePrompt]:
    """One question about images none of which are the same, so that no cache knows them."""
    prompt = engine_prompts(processor, [synthetic_sample(config, _QUESTION)])[0]
    return [replace(prompt, images=(image,)) for image in synthetic_sample(config, images=count).images]


def _setting(
    sides: Mapping[str, Ask],
    prompts: Sequence[EnginePrompt],
    count: int,
    plan: EngineBenchPlan,
    say: Say,
) -> EngineSetting:
    batches = [prompts[i * count : (i + 1) * count] for i in range(plan.rounds)]
    arms = {name: partial(_round, ask, iter(batches), plan.new_tokens) for name, ask in sides.items()}
    rounds = take_turns(arms, plan.repeats, plan.warmup, lambda step: say(f"{count} requests, {step}"))
    dense, pruned = rounds["dense"], rounds["pruned"]
    return EngineSetting(
        requests=count,
        dense=_arm(dense, count),
        pruned=_arm(pruned, count),
        first_token_ratio=_ratio([(_first(p), _first(d)) for p, d in zip(pruned, dense, strict=True)]),
        requests_ratio=_ratio([(d.seconds, p.seconds) for p, d in zip(pruned, dense, strict=True)]),
    )


def _round(ask: Ask, batches: Iterator[Sequence[EnginePrompt]], new_tokens: int) -> EngineRound:
    made: EngineRound = ask("timed", next(batches), new_tokens)
    return made


def _first(made: EngineRound) -> float:
    return fmean(made.first_token_s)


def _arm(rounds: Sequence[EngineRound], count: int) -> EngineArm:
    return EngineArm(
        first_token_ms=Spread.of([1000 * _first(made) for made in rounds]),
        requests_per_s=Spread.of([count / made.seconds for made in rounds]),
        output_tokens_per_s=Spread.of([made.output_tokens / made.seconds for made in rounds]),
    )


def _ratio(pairs: Sequence[tuple[float, float]]) -> Spread:
    return Spread.of([over / under for over, under in pairs])
