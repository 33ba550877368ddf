"""``--engine vllm`` of ``autoprune doctor`` and ``autoprune bench``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from autoprune.cli.failures import FAILED, InputError
from autoprune.cli.groups import settings
from autoprune.cli.output import emit, stderr, stdout, table
from autoprune.cli.prologue import rows_for_prompts

if TYPE_CHECKING:
    from autoprune.data.options import DataOptions
    from autoprune.doctor import CheckResult
    from autoprune.engines.vllm.comparison.examine import EngineReport
    from autoprune.engines.vllm.comparison.timing import EngineBenchmark, EngineBenchPlan
    from autoprune.models.options import ModelOptions

_OPTION = "--engine-option"


def check_engine(engine: str, engine_option: list[str] | None, unwanted: Mapping[str, Any]) -> bool:
    """Whether vLLM is asked for.

    Args:
        engine: What ``--engine`` says.
        engine_option: What ``--engine-option`` says.
        unwanted: Options of the command that are of transformers alone, by their names; those not given are falsy.

    Raises:
        InputError: an option is given that is not of this engine.
    """
    if engine != "vllm":
        if engine_option:
            raise InputError("is of vLLM", field=_OPTION, value=engine_option[0], remedy="add --engine vllm")
        return False
    for option, value in unwanted.items():
        if value:
            raise InputError("is not available with --engine vllm", field=option, remedy="leave it out")
    return True


def doctor_in_vllm(
    model: str,
    loading: ModelOptions,
    reading: DataOptions,
    schedule: str | None,
    data: str | None,
    engine_option: list[str] | None,
    as_json: bool,
) -> int:
    """Compare a schedule in vLLM with the same in transformers; the exit code."""
    from autoprune.engines.vllm.comparison.examine import engine_case, examine_engine
    from autoprune.schedule import Schedule

    if schedule is None:
        raise InputError("is missing", field="SCHEDULE", remedy="name the schedule that vLLM is to serve")
    given = settings(_OPTION, engine_option)
    loaded = Schedule.load(schedule)
    with stderr().status("checking") as status:
        case = engine_case(model, loading, loaded, rows_for_prompts(data, reading), given)
        report = examine_engine(case, status.update)
    if as_json:
        emit({"model": model, "schedule": schedule, "engine": "vllm", **report.to_dict()})
    else:
        _show(model, Path(schedule).name, report)
    return 0 if report.passed else FAILED


def bench_in_vllm(
    model: str,
    loading: ModelOptions,
    schedules: Sequence[str],
    counts: Mapping[str, Any],
    random_init: bool,
    engine_option: list[str] | None,
    as_json: bool,
) -> None:
    """Time a schedule in vLLM beside the dense model.

    Args:
        model: Folder or hub name.
        loading: How it is loaded.
        schedules: The one schedule, a file or a preset.
        counts: Fields of the plan that are numbers.
        random_init: Whether weights are random.
        engine_option: What ``--engine-option`` says.
        as_json: Whether to print one object.

    Raises:
        InputError: there is no schedule, or more than one.
    """
    from autoprune.engines.vllm.comparison.timing import EngineBenchPlan, benchmark_engine

    if len(schedules) != 1:
        said = "is given more than once" if schedules else "is missing"
        raise InputError(said, field="SCHEDULE", remedy="name the one schedule that vLLM is to serve")
    plan = EngineBenchPlan(schedules[0], random_init=random_init, **counts)
    given = settings(_OPTION, engine_option)
    with stderr().status("checking") as status:
        result = benchmark_engine(model, loading, plan, given, status.update)
    if as_json:
        emit({"model": model, "schedule": plan.schedule, "engine": "vllm", **counts, **result.to_dict()})
    else:
        _show_times(model, plan, result)


def show_checks(title: str, results: Sequence[CheckResult]) -> None:
    """Print what checks found, one section for each schedule."""
    rows = table(title, "check", "result", "reason", "s")
    rows.columns[1].justify = rows.columns[2].justify = "left"
    colours = {"pass": "green", "fail": "red", "not applicable": "dim"}
    schedule = None
    for result in results:
        if result.schedule != schedule:
            rows.add_section()
            rows.add_row(result.schedule, style="bold")
            schedule = result.schedule
        status = Text(result.status, style=colours[result.status])
        rows.add_row(f"  {result.check}", status, result.reason, f"{result.seconds:.1f}" if result.seconds else "")
    stdout().print(rows)


def _show(model: str, schedule: str, report: EngineReport) -> None:
    show_checks(f"{model} in vLLM {report.vllm}: {report.dtype}", report.results)
    console = stdout()
    console.print(f"The schedule acts on {report.serving}. Tokens per layer of the first row: {report.tokens}.")
    for name, apart in (("without a schedule", report.dense), (f"under {schedule}", report.pruned)):
        console.print(
            f"vLLM beside transformers, {name}: other tokens in {apart.rows} of {len(report.rows)} rows, "
            f"log-probabilities at most {apart.largest:.1e} apart, {apart.mean:.1e} in the mean."
        )
    console.print("Seconds, loading included: " + ", ".join(f"{k} {v:.0f}" for k, v in report.seconds.items()) + ".")
    if report.passed:
        console.print("vLLM does here what autoprune does on transformers.")
    elif report.conclusive:
        console.print("VLLM DOES NOT DO WHAT AUTOPRUNE DOES ON TRANSFORMERS: do not serve this schedule.")
    else:
        console.print("NOTHING IS SHOWN: give rows (--data) on which the schedule drops tokens and changes answers.")


def _show_times(model: str, plan: EngineBenchPlan, result: EngineBenchmark) -> None:
    from autoprune.cli.bench_table import spread

    console = stdout()
    for setting in result.settings:
        rows = table(
            f"{model} in vLLM {result.vllm}: {setting.requests} requests at once, {result.prompt_tokens} prompt and "
            f"{plan.new_tokens} answer tokens",
            *("", "first token ms", "requests/s", "output tokens/s"),
        )
        for name, arm in (("dense", setting.dense), (Path(plan.schedule).stem, setting.pruned)):
            figures = (arm.first_token_ms, arm.requests_per_s, arm.output_tokens_per_s)
            rows.add_row(name, *(spread(figure) for figure in figures))
        ratios = (setting.first_token_ratio, setting.requests_ratio, setting.requests_ratio)
        rows.add_row("pruned / dense", *(spread(ratio) for ratio in ratios))
        console.print(rows)
        console.print()
    machine = result.machine
    weights = "random weights" if plan.random_init else "its own weights"
    used = "" if machine["gpu"] else f", {machine['threads']} threads on {machine['cores']} cores"
    console.print(
        f"Medians of {plan.repeats} rounds, interquartile range in brackets; ratios round by round. {weights}, "
        f"{result.options['dtype']}, on {machine['gpu'] or machine['cpu']}{used}. The schedule acts on "
        f"{result.serving}; tokens per layer: {result.tokens}."
    )
    for name, why in result.not_measured.items():
        console.print(f"{name}: not measured: {why}.")
