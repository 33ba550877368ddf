"""``autoprune calibrate``: the main job, from a study file to a report."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.failures import exit_code_of
from autoprune.cli.front_table import front_table
from autoprune.cli.options import Debug, Json
from autoprune.cli.output import emit, note, stdout, table
from autoprune.cli.progress import StudyView

if TYPE_CHECKING:
    from autoprune.search.driver import RunOutcome
    from autoprune.search.front import FrontFile
    from autoprune.search.inputs import StudyPlan


def calibrate(
    study: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="Study file.")],
    output: Annotated[str | None, typer.Option("--output", metavar="DIR", help="Folder of the results.")] = None,
    trials: Annotated[int | None, typer.Option("--trials", metavar="N", help="Candidates to measure.")] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="Worker processes; 0 = in-process.")
    ] = None,
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="URL", envvar="AUTOPRUNE_STORAGE", help="Database of the trials.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the study and its data, and say what it would do.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Search the cost–accuracy front of a study and write its report; run again to resume."""
    from autoprune.search.spec import StudySpec

    spec = StudySpec.load(study, trials=trials, workers=workers, storage=storage, output=output)
    if dry_run:
        from autoprune.search.inputs import plan_study

        plan = plan_study(spec)
        emit(plan.to_dict()) if as_json else _show_plan(plan)
        return 0
    from transformers.utils import logging

    from autoprune.report.page import write_report
    from autoprune.search.driver import run_study

    logging.disable_progress_bar()  # the view below is the progress
    with StudyView(spec.objectives) as view, redirect_stdout(sys.stderr):  # Ray prints what its processes die of
        outcome = run_study(spec, on_event=view.listen)
    front = outcome.front
    write_report(front, outcome.output)
    if as_json:
        emit(_summary(outcome, front))
    else:
        stdout().print(front_table(front))
        _show_next(outcome, front, study)
    return exit_code_of(outcome.signum) if outcome.signum else 0


def _summary(outcome: RunOutcome, front: FrontFile) -> dict[str, Any]:
    from autoprune.evaluate.objectives import FLOPS
    from autoprune.report.methods import verdict_of
    from autoprune.report.overview import recommended
    from autoprune.report.reading import drop_of, flops_of

    best = recommended(front)
    return {
        "output": str(outcome.output),
        "complete": not outcome.interrupted,
        "counts": outcome.counts,
        "seconds": front.study.seconds,
        "points": len(front.points),
        "best": best and {"trial": best.trial, FLOPS.figure: flops_of(best), "drop": drop_of(front, best)},
        "presets": {v.name: verdict_of(v) for v in front.study.presets},
        "presets_not_beaten": [v.name for v in front.study.presets if not v.beaten],
        "report": str(outcome.output / "report.html"),
    }


def _show_plan(plan: StudyPlan) -> None:
    rows = table(f"{plan.name}: what calibrate would do", "what")
    rows.add_column("value")
    for name, value in plan.to_dict().items():
        if isinstance(value, dict):
            value = ", ".join(f"{n} {k}" for k, n in value.items())
        rows.add_row(name.replace("_", " "), ", ".join(map(str, value)) if isinstance(value, tuple) else str(value))
    stdout().print(rows)


def _show_next(outcome: RunOutcome, front: FrontFile, study: str) -> None:
    from autoprune.report.page import shown_path

    folder = shown_path(outcome.output)
    if outcome.interrupted:
        note(f"stopped early; to resume: autoprune calibrate {study}")
    note(f"report: {folder / 'report.html'}")
    note(f"take a schedule: autoprune export {folder} --max-drop 0.02 -o schedule.json")
