"""``autoprune fitprune``: a recipe for every layer from attention statistics, under a FLOPs budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import Debug, Json, Model
from autoprune.cli.output import emit, stderr, stdout, table
from autoprune.cli.targets import check_target

if TYPE_CHECKING:
    from autoprune.analysis.fitprune import Recipe


def fitprune(
    model: Model,
    data: Annotated[
        str, typer.Option("--data", metavar="D", help="Calibration rows: a JSONL or Parquet file, or a name.")
    ],
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Schedule file to write.")],
    budget: Annotated[float, typer.Option("--budget", help="Prefill FLOPs over dense.")] = 0.5,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Draw this many rows; default: all.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write FitPrune's recipe: what attention needs least leaves layer by layer, until the budget is met."""
    check_target(output, "--output", force)
    from autoprune.analysis.fitprune import fit_recipe
    from autoprune.cli.models import open_model
    from autoprune.data.samples import load_samples
    from autoprune.schedule import Schedule

    rows = load_samples(data, samples=samples)
    with stderr().status("loading the model") as status:
        recipe = fit_recipe(
            open_model(model, Schedule()),
            rows,
            budget=budget,
            on_sample=lambda done, total: status.update(f"attention statistics: row {done} of {total}"),
        )
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
