"""``autoprune doctor``: checks that pruning is exact on a model and machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.engines import check_engine, doctor_in_vllm, show_checks
from autoprune.cli.failures import FAILED
from autoprune.cli.options import (
    DataForPrompts,
    Debug,
    Engine,
    EngineOption,
    Json,
    Loading,
    ModelOrConfig,
    RandomInit,
    Reading,
)
from autoprune.cli.output import emit, stderr, stdout
from autoprune.cli.prologue import open_model, rows_for_prompts

if TYPE_CHECKING:
    from autoprune.doctor import DoctorReport


def doctor(
    model: ModelOrConfig,
    loading: Loading,
    reading: Reading,
    schedule: Annotated[
        str | None,
        typer.Argument(metavar="[SCHEDULE]", help="Schedule file (JSON); default: three made for this model."),
    ] = None,
    random_init: RandomInit = False,
    data: DataForPrompts = None,
    engine: Engine = "transformers",
    engine_option: EngineOption = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Check that pruning is exact on a model: against a masked reference, padded, without cache, after its undo.

    With --engine vllm: that a schedule in vLLM does what it does in transformers.
    """
    if check_engine(engine, engine_option, {"--random-init": random_init}):
        return doctor_in_vllm(model, loading, reading, schedule, data, engine_option, as_json)
    from autoprune.doctor import default_schedules, examine, model_under_test, random_model_under_test
    from autoprune.evaluate.lengths import check_lengths
    from autoprune.models.config import read_config
    from autoprune.schedule import Schedule

    given = Schedule.load(schedule) if schedule else None
    samples = list(rows_for_prompts(data, reading))[:2]
    with stderr().status("loading the model") as status:
        if random_init:
            config = read_config(model, options=loading)
            (given or Schedule()).check_model(config)
            tested = random_model_under_test(model, config, samples, loading)
        else:
            loaded = open_model(model, loading, given)
            check_lengths(loaded, samples)
            tested = model_under_test(loaded, samples)
        made = {Path(schedule).stem: given} if schedule and given else None
        schedules = made or default_schedules(tested.model, tested.prompts.rows[0])
        report = examine(tested, schedules, status.update)
    if as_json:
        emit({"model": model, "schedule": schedule, "random_init": random_init, **report.to_dict()})
    else:
        _show(model, report)
    return 0 if report.passed else FAILED


def _show(model: str, report: DoctorReport) -> None:
    show_checks(f"{model}: {report.dtype}, {report.device}, {report.kernel} attention", report.results)
    console = stdout()
    noise = ", ".join(f"{name} {value:.1e}" for name, value in report.noise.items())
    kernels = ", ".join(report.kernels)
    console.print(f"Asked: {report.inputs}. Kernels here: {kernels}; the reference runs {report.reference}.")
    console.print(f"Relative distances between logits of dense runs: {noise}.")
    console.print(
        f"Allowed: {report.tolerance:.1e}, and more where padding or a missing cache makes more of a difference."
    )
    console.print(_verdict(report))


def _verdict(report: DoctorReport) -> str:
    counts = (
        f"{report.count('pass')} passed, {report.count('fail')} failed, {report.count('not applicable')} not applicable"
    )
    if report.passed:
        return f"Pruning is exact here: {counts}."
    if report.count("fail"):
        return f"PRUNING IS NOT EXACT HERE: {counts}."
    return f"NOTHING IS SHOWN: no pruned run could be compared with the reference; {counts}."
