"""``autoprune export``: one point of a front as a schedule file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoprune.cli.failures import InputError
from autoprune.cli.options import Debug, Force, Json, Run, output
from autoprune.cli.output import emit, stdout
from autoprune.cli.prologue import Target, check_targets


def export(
    run: Run,
    output: Annotated[str, output("Schedule file to write.")],
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop",
            metavar="X",
            help="Cheapest point that loses at most X (default 0.01), or task=X for one task.",
        ),
    ] = None,
    max_flops: Annotated[
        float | None, typer.Option("--max-flops", metavar="X", help="Best point with at most this share of the FLOPs.")
    ] = None,
    trial: Annotated[int | None, typer.Option("--trial", metavar="N", help="The point of this trial.")] = None,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Save one point of a front as a schedule: the cheapest within a loss, the best within a budget, or a trial."""
    from autoprune.evaluate.objectives import FLOPS
    from autoprune.report.export import select_point
    from autoprune.report.reading import drop_of, flops_of, point_name, quality_of
    from autoprune.report.words import percent, stage_words
    from autoprune.search.front import FrontFile

    target = Path(output)
    check_targets(force, Target("--output", target))
    front = FrontFile.load(run)
    task, bound = _bound(max_drop)
    point = select_point(front, max_drop=bound, task=task, max_flops=max_flops, trial=trial)
    point.schedule.save(target)
    drop = drop_of(front, point)
    if as_json:
        chosen = {"trial": point.trial, "name": point.name, FLOPS.figure: flops_of(point), "drop": drop}
        emit({"written": str(target), **chosen, "schedule": point.schedule.to_json_dict()})
        return
    console, quality = stdout(), quality_of(front)
    lost = f"{quality.unit.loss(drop)} of {quality.label}"
    console.print(f"{point_name(point)}: {percent(flops_of(point))} of the prefill FLOPs, loses {lost}")
    for stage in point.schedule.stages:
        console.print(f"  {stage_words(stage)}")
    console.print(f"written: {target}", markup=False)


def _bound(text: str | None) -> tuple[str | None, float | None]:
    """``0.02`` or ``where=0.05`` as task and bound."""
    if text is None:
        return None, None
    task, _, number = text.rpartition("=")
    try:
        return task or None, float(number)
    except ValueError:
        remedy = "give a share such as 0.02, or task=0.02"
        raise InputError("is no number", field="--max-drop", value=text, remedy=remedy) from None
