"""``autoprune verify``: a schedule's claim checked on held-out rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import FAILED
from autoprune.cli.options import BatchSize, Data, Debug, Json, Loading, Model, Reading, ScheduleFile
from autoprune.cli.output import emit, stdout, table
from autoprune.cli.prologue import opened, read_rows

if TYPE_CHECKING:
    from autoprune.evaluate.verify import Verification


def verify(
    model: Model,
    schedule: ScheduleFile,
    data: Data,
    loading: Loading,
    reading: Reading,
    batch_size: BatchSize = 16,
    max_new_tokens: Annotated[
        int | None,
        typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens; default: the evidence's, else 32."),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Check a schedule's claimed loss of accuracy on held-out rows."""
    from autoprune.evaluate.verify import verify_schedule
    from autoprune.schedule import Schedule

    loaded_schedule = Schedule.load(schedule)
    rows = read_rows(data, reading)
    with opened(model, loading, rows, loaded_schedule) as job:
        result = verify_schedule(
            job.model, loaded_schedule, rows, batch_size=batch_size, max_new_tokens=max_new_tokens, on_step=job.say
        )
    if as_json:
        emit({"model": model, "schedule": schedule, "data": data, **result.to_dict()})
    else:
        _show(result)
    return FAILED if result.holds is False else 0


def _show(result: Verification) -> None:
    from autoprune.evaluate.objectives import ACCURACY
    from autoprune.report.words import interval, milliseconds, percent, points

    rows = table(f"{result.samples} held-out rows, 95 % intervals", "", "dense", "pruned", "pruned against dense")
    lost = f"loses {points(result.drop)} points {interval(result.drop_ci)}"
    rows.add_row(ACCURACY.label, percent(result.accuracy_dense), percent(result.accuracy), lost)
    rows.add_row("prefill FLOPs", "100 %", percent(result.flops_ratio), f"{1 / result.flops_ratio:.2f}× fewer")
    spread = result.flops_quantiles
    middle = f"80 % of rows: {percent(spread['p10'])} to {percent(spread['p90'])}"
    rows.add_row("  of single rows", "", percent(spread["p50"]), f"{middle}; at most {percent(spread['max'])}")
    faster = f"{result.prefill_dense_ms / result.prefill_ms:.2f}× as fast, batch {result.batch}"
    rows.add_row("prefill time", milliseconds(result.prefill_dense_ms), milliseconds(result.prefill_ms), faster)
    for task, part in result.tasks.items():
        rows.add_row(f"  {task}", "", "", f"loses {points(part['drop'])} points {interval(part['drop_ci'])}")
    console = stdout()
    console.print(rows)
    for name, words in result.differs.items():
        console.print(f"Another {name} than the schedule's evidence: {words}.")
    if result.holds is None:
        console.print("The schedule carries no evidence to compare with.")
        return
    verdict = "agree" if result.holds else "DO NOT AGREE"
    console.print(
        f"Claimed and measured drop {verdict}: {points(result.claimed_drop)} points on validation, "
        f"{points(result.drop)} here; up to {points(result.allowed)} apart is chance."
    )
