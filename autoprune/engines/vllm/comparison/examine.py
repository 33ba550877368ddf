"""A schedule in vLLM beside autoprune on transformers, on the user's machine and rows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from autoprune.data.rows import Sample
from autoprune.doctor import CheckResult
from autoprune.engines.vllm.comparison.agreement import CHECKS, ComparedRuns, Disagreement, disagreement, far_rows
from autoprune.engines.vllm.comparison.asked import EngineAnswer, EnginePrompt, engine_prompts, made_up
from autoprune.engines.vllm.comparison.settings import (
    EngineSettings,
    check_served,
    check_vllm,
    engine_options,
    images_of,
)
from autoprune.engines.vllm.comparison.sides import NEW_TOKENS, Say, answers, in_vllm, on_transformers, silent
from autoprune.engines.vllm.serving import Serving, asked_options
from autoprune.models.config import read_config
from autoprune.models.options import ModelOptions
from autoprune.models.processors import load_processor
from autoprune.schedule import Schedule
from autoprune.sources import hub_or_cache

_FEW = 8
"""One row in so many may be far apart."""


@dataclass(frozen=True)
class EngineReport:
    """Results of a comparison of two engines.

    Attributes:
        vllm: Its version.
        serving: Where the schedule acts in vLLM.
        rows: Ids of the rows.
        device: Where transformers ran.
        dtype: Number type of both.
        dense: How far the engines are apart without a schedule.
        pruned: How far they are apart under it.
        tokens: Of the first row, tokens in each layer in vLLM.
        seconds: Time of each part, loading included.
        results: One per check.
    """

    vllm: str
    serving: str
    rows: list[str]
    device: str
    dtype: str
    dense: Disagreement
    pruned: Disagreement
    tokens: list[int]
    seconds: dict[str, float]
    results: list[CheckResult]

    @property
    def conclusive(self) -> bool:
        """Whether something could be seen: every stage dropped tokens, and that moved the answers."""
        return all(result.status != "not applicable" for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(result.status == "pass" for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON object."""
        return {"passed": self.passed, "conclusive": self.conclusive, **asdict(self)}


@dataclass(frozen=True)
class EngineCase:
    """A schedule, a model and rows, checked before anything is loaded.

    Attributes:
        model: Folder or hub name.
        loading: How it is loaded.
        schedule: The schedule.
        samples: The rows.
        prompts: The same as vLLM takes them.
        serving: Where the schedule acts in vLLM.
        options: Arguments of `vllm.LLM`.
        vllm: Its version.
    """

    model: str
    loading: ModelOptions
    schedule: Schedule
    samples: Sequence[Sample]
    prompts: Sequence[EnginePrompt]
    serving: Serving
    options: Mapping[str, Any]
    vllm: str


def engine_case(
    model: str, loading: ModelOptions, schedule: Schedule, samples: Sequence[Sample], given: Mapping[str, Any]
) -> EngineCase:
    """What is to be compared.

    Args:
        model: Folder or hub name.
        loading: How it is loaded.
        schedule: The schedule.
        samples: The rows; none = made-up ones.
        given: Arguments of `vllm.LLM` of the user's.

    Raises:
        ModelError: vLLM is missing or of another version, or does not serve schedules with this model.
        ScheduleError: vLLM cannot serve the schedule.
        DataError: a row cannot be asked.
    """
    version = check_vllm()
    config = read_config(model, options=loading)
    check_served(schedule, config, 1)  # before the processor is read
    with hub_or_cache(model):
        processor = load_processor(model, config, loading)
    samples = list(samples) or made_up(config)
    prompts = engine_prompts(processor, samples)
    serving = check_served(schedule, config, images_of(prompts))
    options = engine_options(model, loading, config, prompts, NEW_TOKENS, given)
    # Nothing is compiled: what is compared is the schedule.
    options = {"enforce_eager": True, **asked_options(serving), **options}
    return EngineCase(model, loading, schedule, samples, prompts, serving, options, version)


def examine_engine(case: EngineCase, say: Say = silent) -> EngineReport:
    """Run all rows dense and pruned, on transformers and in vLLM, and compare.

    Each model runs in a process of its own, one after the other.

    Args:
        case: What is compared.
        say: Called with a description of what is about to run.

    Raises:
        AutopruneError: a model cannot be loaded, or an engine fails.
    """
    seconds: dict[str, float] = {}
    reference, place = _on_transformers(case, say, seconds)
    options = {**case.options, "dtype": place["dtype"]}
    settings = EngineSettings(options)
    dense = _in_vllm("vLLM, dense", settings, case, say, seconds)
    pruned = _in_vllm("vLLM, pruned", replace(settings, schedule=case.schedule), case, say, seconds)
    runs = ComparedRuns(case.schedule, (reference[0], dense), (reference[1], pruned), half=place["dtype"] != "float32")
    runs = with_rounding(runs, case, say)
    results = []
    for name, check in CHECKS.items():
        outcome = check(runs)
        results.append(CheckResult(name, "vLLM", outcome.status, outcome.reason, 0.0))
    return EngineReport(
        vllm=case.vllm,
        serving=case.serving.value,
        rows=[sample.id for sample in case.samples],
        device=place["device"],
        dtype=place["dtype"],
        dense=disagreement(*runs.dense),
        pruned=disagreement(*runs.pruned),
        tokens=list(pruned[0].lengths),
        seconds=seconds,
        results=results,
    )


def with_rounding(runs: ComparedRuns, case: EngineCase, say: Say = silent) -> ComparedRuns:
    """The same with what rounding does to the few rows that are far apart; many are not far apart by rounding.

    Args:
        runs: The answers.
        case: What was compared.
        say: Called with a description of what is about to run.
    """
    far = far_rows(runs)
    if not 0 < len(far) <= max(1, len(case.samples) // _FEW):
        return runs
    with on_transformers(case.model, case.loading, say) as ask:
        say(f"transformers: what rounding does to {len(far)} rows")
        moved = ask("rounding", case.schedule, [case.samples[row] for row in far], NEW_TOKENS)
    return replace(runs, rounding=dict(zip(far, moved, strict=True)))


def _on_transformers(
    case: EngineCase, say: Say, seconds: dict[str, float]
) -> tuple[list[list[EngineAnswer]], dict[str, str]]:
    started = time.perf_counter()
    with on_transformers(case.model, case.loading, say) as ask:
        made = [
            answers(ask, f"transformers, {name}", case.samples, schedule, say=say)
            for name, schedule in (("dense", Schedule()), ("pruned", case.schedule))
        ]
        place: dict[str, str] = ask("measured_in")
    seconds["transformers"] = time.perf_counter() - started
    return made, place


def _in_vllm(
    name: str, settings: EngineSettings, case: EngineCase, say: Say, seconds: dict[str, float]
) -> list[EngineAnswer]:
    started = time.perf_counter()
    with in_vllm(name, settings, say) as ask:
        made = answers(ask, name, case.prompts, say=say)
    seconds[name] = time.perf_counter() - started
    return made
