"""``autoprune flow``: HiMAP's analysis of the information flow between image and text."""

from __future__ import annotations

from typing import Annotated, Literal

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
    Plot,
    ReadingForIntervals,
    output,
)
from autoprune.cli.output import emit, note
from autoprune.cli.prologue import Target, check_targets, opened, read_visual_rows


def flow(
    model: Model,
    data: Data,
    loading: Loading,
    reading: ReadingForIntervals,
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 32,
    loss: Annotated[
        Literal["first", "answer"],
        typer.Option("--loss", help="Loss on the first token of the right answer (HiMAP), or on the whole answer."),
    ] = "first",
    window: Annotated[
        int | None, typer.Option("--window", min=1, help="Layers to cut at once; default: all from a layer on.")
    ] = None,
    measure: Annotated[
        Literal["share", "summed", "per-token", "read"],
        typer.Option("--measure", help="Measure to show; summed is that of HiMAP's code."),
    ] = "share",
    by_task: Annotated[bool, typer.Option("--by-task", help="Show each task too.")] = False,
    output: Annotated[str | None, output("Schedule file to write: the proposed HiMAP schedule.")] = None,
    plot: Plot = None,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure the information flow between image and text by layer, cut it, and propose HiMAP's two layers."""
    check_targets(force, Target("--output", output), Target("--plot", plot, ".png"))
    from autoprune.analysis.flow.study import analyse_flow
    from autoprune.cli.flow_table import show

    rows = read_visual_rows(data, reading)
    with opened(model, loading, rows) as job:
        result = analyse_flow(
            job.model,
            rows,
            loss=loss,
            window=window,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            on_step=job.say,
        )
    if plot is not None:
        from autoprune.report.flow_plot import flow_png

        flow_png(result, plot, measure, by_task)
    if not as_json:
        show(result, measure, by_task)
    if output is not None:
        result.schedule(job.model).save(output)
        note(f"written: {output}")
    if as_json:
        proposed = result.schedule(job.model).to_json_dict() if result.overall.proposal.complete else None
        emit({"model": model, **result.to_dict(), "schedule": proposed})
