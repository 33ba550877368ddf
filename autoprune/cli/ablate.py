"""``autoprune ablate``: HiMAP's two stages over a grid of layers, shares and attention rows, with control arms."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
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
    ReadingForIntervals,
    output,
)
from autoprune.cli.output import emit, note, stdout, table
from autoprune.cli.prologue import Target, check_targets, opened, read_rows

if TYPE_CHECKING:
    from autoprune.analysis.ablation import Ablation


def ablate(
    model: Model,
    data: Data,
    output: Annotated[str, output("Report page to write (.html); a CSV goes beside it.")],
    loading: Loading,
    reading: ReadingForIntervals,
    k1: Annotated[list[int] | None, typer.Option("--k1", help="Layer of the first stage; may be repeated.")] = None,
    k2: Annotated[list[int] | None, typer.Option("--k2", help="Layer of the second stage; may be repeated.")] = None,
    keep1: Annotated[
        list[float] | None,
        typer.Option("--keep1", help="Share of the visual tokens after the first stage; may be repeated."),
    ] = None,
    keep2: Annotated[
        list[float] | None,
        typer.Option("--keep2", help="Share of the visual tokens after the second stage; may be repeated."),
    ] = None,
    batch_size: BatchSize = 16,
    max_new_tokens: MaxNewTokens = 32,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Ablate HiMAP's two stages against swapped, equal, random and even choice, over layers and shares."""
    page, sheet = Path(output), Path(output).with_suffix(".csv")
    check_targets(force, Target("--output", page, ".html"), Target("--output", sheet))
    from autoprune.analysis.ablation import ablate as run
    from autoprune.analysis.ablation import grid
    from autoprune.report.ablation_page import ablation_csv, ablation_page

    rows = read_rows(data, reading)
    with opened(model, loading, rows) as job:
        depth = job.model.config.get_text_config(decoder=True).num_hidden_layers
        cells = grid(depth, k1 or (), k2 or (), keep1 or (), keep2 or ())
        result = run(
            job.model,
            rows,
            cells,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            on_cell=job.counts("running every arm", "setting"),
        )
    ablation_page(result, page, model)
    ablation_csv(result, sheet)
    if as_json:
        emit({"model": model, "page": str(page), "csv": str(sheet), **_fields(result)})
    else:
        _show(result)
        note(f"written: {page}, {sheet}")


def _fields(result: Ablation) -> dict[str, object]:
    fields = asdict(result)
    fields["factors"] = {name: {f"{v:g}": e for v, e in levels.items()} for name, levels in fields["factors"].items()}
    return fields


def _show(result: Ablation) -> None:
    from autoprune.report.ablation_page import NAMES
    from autoprune.report.words import percent, points

    at = [f"K1 = {layer}" for layer in result.behind_at]
    rows = table(f"{result.samples} rows, mean over the grid [95 %]", "who votes", "accuracy", "HiMAP's lead", *at)
    for arm, accuracy in result.arms.items():
        share = f"{percent(accuracy.mean)} [{points(accuracy.low)}, {points(accuracy.high)}]"
        leads = [of[arm] for of in (result.behind, *result.behind_at.values())]
        ends = [f"{points(e.mean)} [{points(e.low)}, {points(e.high)}]" for e in leads]
        rows.add_row(NAMES[arm], share, *("" if arm == "himap" else e for e in ends))
    console = stdout()
    console.print(rows)
    if result.by_generating:
        console.print(result.by_generating)
    console.print(f"dense: {percent(result.dense.mean)} [{points(result.dense.low)}, {points(result.dense.high)}]")
