"""``autoprune flow``: where image and text exchange information, what cutting the flow costs, and HiMAP's layers."""

from __future__ import annotations

from typing import Annotated

import typer

from autoprune.cli.failures import InputError
from autoprune.cli.options import Debug, Json, Model
from autoprune.cli.output import emit, note, stderr
from autoprune.cli.targets import check_target

_MEASURES = ("share", "summed", "per-token", "read")
_LOSSES = ("first", "answer")


def flow(
    model: Model,
    data: Annotated[
        str, typer.Option("--data", metavar="D", help="Rows with images: a JSONL or Parquet file, or a name.")
    ],
    samples: Annotated[int | None, typer.Option("--samples", min=2, help="Draw this many rows; default: all.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Rows of a batch.")] = 16,
    loss: Annotated[
        str, typer.Option("--loss", help="Of the first token of the right answer (HiMAP), or of the whole answer.")
    ] = "first",
    window: Annotated[
        int | None, typer.Option("--window", min=1, help="Cut this many layers; default: all from a layer on.")
    ] = None,
    measure: Annotated[
        str, typer.Option("--measure", help="Shown: share, summed (HiMAP's code), per-token or read.")
    ] = "share",
    by_task: Annotated[bool, typer.Option("--by-task", help="Show each task too.")] = False,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Save the proposed HiMAP schedule.")
    ] = None,
    plot: Annotated[str | None, typer.Option("--plot", metavar="FILE", help="Draw the curves (PNG).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure how information flows between image and text, cut the flow, and propose HiMAP's two layers."""
    for option, value, known in (("--measure", measure, _MEASURES), ("--loss", loss, _LOSSES)):
        if value not in known:
            raise InputError("no such choice", field=option, value=value, remedy=f"use {', '.join(known)}")
    check_target(output, "--output", force)
    check_target(plot, "--plot", force, ".png")
    from autoprune.analysis.flow.study import analyse_flow
    from autoprune.cli.flow_table import show
    from autoprune.cli.models import open_model
    from autoprune.data.samples import load_samples
    from autoprune.schedule import Schedule

    rows = load_samples(data, samples=samples)
    with stderr().status("loading the model") as status:
        loaded = open_model(model, Schedule())
        found = analyse_flow(
            loaded,
            rows,
            loss="first" if loss == "first" else "answer",
            window=window,
            batch_size=batch_size,
            on_step=status.update,
        )
    if plot is not None:
        from autoprune.report.flow_plot import flow_png

        flow_png(found, plot, measure, by_task)
    if not as_json:
        show(found, measure, by_task)
    if output is not None:
        found.schedule(loaded).save(output)
        note(f"written: {output}")
    if as_json:
        proposed = found.schedule(loaded).to_json_dict() if found.overall.proposal.complete else None
        emit({"model": model, **found.to_dict(), "schedule": proposed})
