"""``autoprune verify``: does the schedule keep its promise on rows that no search has seen?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import FAILED
from autoprune.cli.options import Debug, Json, Model, ScheduleFile
from autoprune.cli.output import emit, stderr, stdout, table

if TYPE_CHECKING:
    from autoprune.evaluate.verify import Verification


def verify(
    model: Model,
    schedule: ScheduleFile,
    data: Annotated[
        str, typer.Option("--data", metavar="D", help="Held-out rows: a JSONL or Parquet file, or a name.")
    ],
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Draw this many rows; default: all.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rows of a batch.")] = 16,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Compare dense and pruned answers on held-out rows with what the schedule's evidence claims."""
    from autoprune.cli.models import open_model
    from autoprune.data.samples import load_samples
    from autoprune.evaluate.verify import verify_schedule
    from autoprune.schedule import Schedule

    loaded_schedule = Schedule.load(schedule)
    rows = load_samples(data, samples=samples)
    with stderr().status("loading the model") as status:
        loaded = open_model(model, loaded_schedule)
        result = verify_schedule(loaded, loaded_schedule, rows, batch_size=batch_size, on_step=status.update)
    if as_json:
        emit({"model": model, "schedule": schedule, "data": data, **result.to_dict()})
    else:
        _show(result)
    return FAILED if result.holds is False else 0


def _show(result: Verification) -> None:
    from autoprune.report.words import interval, milliseconds, percent, points

    rows = table(f"{result.samples} held-out rows, 95 % intervals", "", "dense", "pruned", "pruned against dense")
    lost = f"loses {points(result.drop)} points {interval(result.drop_ci)}"
    rows.add_row("accuracy", percent(result.accuracy_dense), percent(result.accuracy), lost)
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
    if result.holds is None:
        console.print("The schedule carries no evidence to compare with.")
        return
    verdict = "agree" if result.holds else "DO NOT AGREE"
    console.print(
        f"Claimed and measured drop {verdict}: {points(result.claimed_drop)} points on validation, "
        f"{points(result.drop)} here; up to {points(result.allowed)} apart is chance."
    )
