"""``autoprune codebook``: visual tokens that say nothing in any image, as prototypes to prune by before layer 0."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import InputError
from autoprune.cli.options import Debug, Json, Model
from autoprune.cli.output import emit, stderr, stdout, table
from autoprune.cli.targets import check_target

if TYPE_CHECKING:
    from autoprune.analysis.codebook.build import Codebook
    from autoprune.schedule import CodebookCriterion


def codebook(
    model: Model,
    data: Annotated[
        str, typer.Option("--data", metavar="D", help="Training rows with images: a JSONL or Parquet file, or a name.")
    ],
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FILE", help="Codebook to write (.safetensors; JSON beside it).")
    ],
    schedule: Annotated[
        str | None, typer.Option("--schedule", metavar="FILE", help="Write a schedule that uses it, too.")
    ] = None,
    keep: Annotated[
        float, typer.Option("--keep", min=0.0, max=1.0, help="Share of the visual tokens that this schedule keeps.")
    ] = 0.2,
    samples: Annotated[int | None, typer.Option("--samples", min=1, help="Draw this many rows; default: all.")] = None,
    probes: Annotated[int, typer.Option("--probes", min=1, help="Visual tokens to probe in each image.")] = 96,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="Ask this about every image, not the row's question.")
    ] = None,
    variant: Annotated[
        str, typer.Option("--variant", help="sound, or paper: measures as in the code released with the paper.")
    ] = "sound",
    quantile: Annotated[
        float, typer.Option("--quantile", help="Of what meaningless tokens do: redundant tokens do no more.")
    ] = 0.95,
    clusters: Annotated[
        int | None, typer.Option("--clusters", min=1, help="Default: the square root of the number of probed tokens.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Most prototypes.")] = 512,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find visual tokens that say nothing in any image, and save them as a codebook to prune by before layer 0."""
    target = Path(output)
    check_target(target, "--output", force, ".safetensors")
    check_target(target.with_suffix(".json"), "--output", force)
    check_target(schedule, "--schedule", force)
    if schedule and Path(schedule).absolute() in (target.absolute(), target.with_suffix(".json").absolute()):
        raise InputError("is a file of the codebook", field="--schedule", value=schedule, remedy="name another")
    from autoprune.analysis.codebook.build import build_codebook, checked_variant
    from autoprune.cli.models import open_model
    from autoprune.data.samples import load_samples
    from autoprune.schedule import Schedule

    rows = load_samples(data, samples=samples)
    known = checked_variant(variant, quantile, rows)
    with stderr().status("loading the model") as status:
        loaded = open_model(model, Schedule())
        found = build_codebook(
            loaded,
            rows,
            variant=known,
            probes=probes,
            quantile=quantile,
            clusters=clusters,
            limit=limit,
            prompt=prompt,
            on_sample=lambda done, total: status.update(f"probing visual tokens: row {done} of {total}"),
        )
    criterion = found.save(target)
    if schedule is not None:
        found.schedule(loaded, criterion, keep).save(schedule)
    if as_json:
        facts = {k: v for k, v in found.facts.items() if k not in ("images", "image_of_prototype")}
        emit({**facts, "output": output, "schedule": schedule, "criterion": criterion.model_dump(mode="json")})
    else:
        _show(found, criterion, schedule)


def _show(found: Codebook, criterion: CodebookCriterion, schedule: str | None) -> None:
    from autoprune.report.words import percent

    facts = found.facts
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
    console.print(f"criterion: {criterion.model_dump_json()}", markup=False)
    if schedule is not None:
        console.print(f"schedule: {schedule}", markup=False)
