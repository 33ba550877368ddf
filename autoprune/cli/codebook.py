"""``autoprune codebook``: a codebook of redundant visual tokens, to prune by before layer 0."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import Data, Debug, Force, Json, Loading, Model, Reading, output
from autoprune.cli.output import emit, stdout, table
from autoprune.cli.prologue import Target, check_targets, opened, read_visual_rows

if TYPE_CHECKING:
    from autoprune.analysis.codebook.build import Codebook
    from autoprune.schedule import CodebookCriterion


def codebook(
    model: Model,
    data: Data,
    output: Annotated[str, output("Codebook to write (.safetensors); its JSON goes beside it.")],
    loading: Loading,
    reading: Reading,
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="FILE", help="Schedule to write that prunes by the codebook.")
    ] = None,
    keep: Annotated[
        float, typer.Option("--keep", min=0.0, max=1.0, help="Share of the visual tokens that this schedule keeps.")
    ] = 0.2,
    probes: Annotated[int, typer.Option("--probes", min=1, help="Visual tokens to probe in each image.")] = 96,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="Question to ask about every image, not the row's.")
    ] = None,
    variant: Annotated[
        str, typer.Option("--variant", help="Measures: sound, or paper = as in the code released with the paper.")
    ] = "sound",
    quantile: Annotated[
        float,
        typer.Option("--quantile", help="Quantile of what mean visual tokens do; redundant ones do no more."),
    ] = 0.95,
    clusters: Annotated[
        int | None,
        typer.Option("--clusters", min=1, help="Clusters; default: square root of the number of probed tokens."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Largest number of prototypes.")] = 512,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Build a codebook of visual tokens that are redundant in every image, to prune by before layer 0."""
    target = Path(output)
    check_targets(
        force,
        Target("--output", target, ".safetensors"),
        Target("--output", target.with_suffix(".json")),
        Target("--schedule", schedule),
    )
    from autoprune.analysis.codebook.build import build_codebook, checked_variant

    rows = read_visual_rows(data, reading)
    known = checked_variant(variant, quantile, rows)
    with opened(model, loading, rows) as job:
        result = build_codebook(
            job.model,
            rows,
            variant=known,
            probes=probes,
            quantile=quantile,
            clusters=clusters,
            limit=limit,
            prompt=prompt,
            on_sample=job.counts("probing visual tokens"),
        )
    criterion = result.save(target)
    if schedule is not None:
        result.schedule(job.model, criterion, keep).save(schedule)
    if as_json:
        facts = {k: v for k, v in result.facts.items() if k not in ("images", "image_of_prototype")}
        emit({**facts, "output": output, "schedule": schedule, "criterion": criterion.model_dump(mode="json")})
    else:
        _show(result, criterion, schedule)


def _show(result: Codebook, criterion: CodebookCriterion, schedule: str | None) -> None:
    from autoprune.report.words import percent

    facts = result.facts
    rows = table(f"{facts['samples']} rows, {facts['probed']} visual tokens probed", "measure", "redundant up to")
    for name, bound in facts["thresholds"].items():
        rows.add_row(name, f"{bound:.3g}")
    console = stdout()
    console.print(rows)
    console.print(
        f"redundant: {percent(facts['redundant'] / facts['probed'])} of them; prototypes: {facts['prototypes']}, from "
        f"{facts['context_independent_clusters']} of {facts['clusters']} clusters; "
        f"{facts['forwards_per_image']} versions of a prompt per image, run in batches"
    )
    console.print(f"criterion: {criterion.model_dump_json()}")
    if schedule is not None:
        console.print(f"schedule: {schedule}")
