"""``autoprune fitprune``: FitPrune's schedule from attention statistics, under a FLOPs budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import Data, Debug, Force, Json, Loading, Model, Reading, output
from autoprune.cli.output import emit, stdout, table
from autoprune.cli.prologue import Target, check_targets, opened, read_visual_rows

if TYPE_CHECKING:
    from autoprune.analysis.fitprune import Recipe


def fitprune(
    model: Model,
    data: Data,
    output: Annotated[str, output("Schedule file to write.")],
    loading: Loading,
    reading: Reading,
    budget: Annotated[float, typer.Option("--budget", help="Prefill FLOPs, pruned over dense.")] = 0.5,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fit FitPrune's schedule: from each layer on, what attention needs least leaves, until a FLOPs budget is met."""
    check_targets(force, Target("--output", output))
    from autoprune.analysis.fitprune import fit_recipe

    rows = read_visual_rows(data, reading)
    with opened(model, loading, rows) as job:
        recipe = fit_recipe(job.model, rows, budget=budget, on_sample=job.counts("attention statistics"))
    recipe.schedule.save(output)
    if as_json:
        emit({"model": model, "data": data, "samples": len(rows), "output": output, **_fields(recipe)})
    else:
        _show(recipe, len(rows), output)


def _fields(recipe: Recipe) -> dict[str, object]:
    keep = {str(layer): share for layer, share in recipe.keep.items()}
    return {"keep": keep, "tolerance": recipe.tolerance, "flops_ratio": recipe.flops_ratio}


def _show(recipe: Recipe, samples: int, output: str) -> None:
    from autoprune.report.words import percent

    rows = table(f"FitPrune's recipe from {samples} rows", "before layer", "visual tokens left")
    for layer, share in recipe.keep.items():
        rows.add_row(str(layer), percent(share))
    console = stdout()
    console.print(rows)
    console.print(
        f"prefill FLOPs {percent(recipe.flops_ratio)} of dense; a layer loses at most {percent(recipe.tolerance)} of "
        f"its attention to the image; saved as {output}"
    )
