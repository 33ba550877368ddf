"""``autoprune transfer``: a schedule of one model carried over to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import (
    BatchSize,
    Data,
    Debug,
    Force,
    Json,
    Loading,
    MaxNewTokens,
    Model,
    ReadingAtMost,
    ScheduleFile,
    output,
)
from autoprune.cli.output import emit, note, stdout, table
from autoprune.cli.prologue import Target, check_targets, opened, read_rows

if TYPE_CHECKING:
    from autoprune.search.transfer import Transfer


def transfer(
    schedule: ScheduleFile,
    model: Model,
    data: Data,
    output: Annotated[str, output("Schedule file to write.")],
    loading: Loading,
    reading: ReadingAtMost,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Rows to draw at random, at most.")] = 64,
    local_search: Annotated[
        int, typer.Option("--local-search", metavar="N", min=0, help="Schedules around it to measure; 0 = none.")
    ] = 48,
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 32,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Carry a schedule over to another model: by relative depth, measured on a few rows, improved step by step."""
    check_targets(force, Target("--output", output))
    from autoprune.schedule import Schedule
    from autoprune.search.transfer import transfer_schedule

    given = Schedule.load(schedule)
    found = read_rows(data, reading)
    if len(found) > rows:
        found = read_rows(data, reading.model_copy(update={"samples": rows}))
    with opened(model, loading, found) as job:
        outcome = transfer_schedule(
            job.model,
            given,
            found,
            name=job.model.name,
            tries=local_search,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            on_step=job.say,
        )
    outcome.schedule.save(output)
    if as_json:
        emit({"model": model, "schedule": schedule, "data": data, "output": output, **outcome.to_dict()})
    else:
        _show(outcome, output)


def _show(outcome: Transfer, output: str) -> None:
    from autoprune.evaluate.objectives import ACCURACY
    from autoprune.report.words import percent, points, stage_words

    source, count = outcome.source, outcome.found.summary.samples
    name = source["model"] or "a schedule without a model"
    rows = table(f"From {name}, {source['depth']} layers; {count} rows", "", "same relative depth", "local search")
    ends = (outcome.mapped, outcome.found)
    rows.add_row("stages", *("\n".join(stage_words(stage) for stage in end.schedule.stages) for end in ends))
    rows.add_row("prefill FLOPs", *(percent(end.summary.flops_ratio) for end in ends))
    rows.add_row(ACCURACY.label, *(percent(end.summary.accuracy) for end in ends))
    rows.add_row("loses, points", *(points(end.summary.drop or 0.0) for end in ends))
    stdout().print(rows)
    note(f"{outcome.tried} schedules measured around it, {outcome.steps} steps taken; saved as {output}")
    if outcome.note:
        note(outcome.note)
    note("the loss is of the rows that chose it: check it on others with `autoprune verify`")
