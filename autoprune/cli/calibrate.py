"""``autoprune calibrate``: the main job, from a study file to a report."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoprune.cli.failures import FAILED, exit_code_of
from autoprune.cli.front_table import front_table
from autoprune.cli.options import Debug, Json
from autoprune.cli.output import complain, emit, note, stderr, stdout, table
from autoprune.cli.progress import StudyView

if TYPE_CHECKING:
    from autoprune.evaluate.preflight import Preflight
    from autoprune.search.driver import RunOutcome
    from autoprune.search.estimate import Expected
    from autoprune.search.front import FrontFile
    from autoprune.search.spec import StudySpec

_ITS_OWN = "default: the study's"
_SHOWN_DROP = 0.02
"""Loss of the example that a finished study prints."""


def calibrate(
    study: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="Study file.")],
    output: Annotated[
        str | None, typer.Option("--output", metavar="DIR", help=f"Folder of the results; {_ITS_OWN}.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help=f"Candidates to measure; {_ITS_OWN}.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", metavar="N", help=f"Worker processes, 0 = in-process; {_ITS_OWN}."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", metavar="URL", envvar="AUTOPRUNE_STORAGE", help=f"Database of the trials; {_ITS_OWN}."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check study, data, model, database and folders; say what it would do.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Search the cost–accuracy front of a study and write its report; run again to resume."""
    from autoprune.search.spec import StudySpec

    spec = StudySpec.load(study, trials=trials, workers=workers, storage=storage, output=output)
    if dry_run:
        return _dry_run(spec, as_json)
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


def _dry_run(spec: StudySpec, as_json: bool) -> int:
    """The plan of a study and a look at its model; fails where the model would be no reference."""
    from transformers.utils import logging

    from autoprune.evaluate.objectives import ACCURACY
    from autoprune.search.inputs import look_at, plan_study
    from autoprune.search.rehearsal import rehearse

    logging.disable_progress_bar()
    plan = plan_study(spec)
    rehearse(spec)
    with stderr().status("loading the model and answering the first rows"):
        found, expected = look_at(spec)
    hopeless = found.problem if ACCURACY.name in spec.qualities else None
    if as_json:
        emit({**plan.to_dict(), "preflight": found.to_dict(), "expected": asdict(expected)})
    else:
        _show_pairs(f"{plan.name}: what calibrate would do", plan.to_dict())
        _show_pairs("pre-flight: the model on its rows", _readable(found, expected))
    for warning in (*plan.warnings, *([found.doubt] if found.doubt else [])):
        note(f"warning: {warning}")
    if hopeless:
        complain(hopeless)
    return FAILED if hopeless else 0


def _readable(found: Preflight, expected: Expected) -> dict[str, Any]:
    """The look at the model, figures in words; what is not known is left out."""
    from autoprune.search.estimate import amounts

    shown = {
        "prompt": found.prompt,
        "answer": repr(found.answer),
        "accepted": found.accepted,
        "template": found.template,
        "tokens": _spread(found.tokens),
        "visual_tokens": _spread(found.visual_tokens),
        "generation": ", ".join(f"{name} {value}" for name, value in found.generation.items()),
        "dense_accuracy": None if found.right is None else f"{found.right:.1%} of {found.judged} rows",
        "by_generating": found.by_generating,
        "expected": amounts(expected.seconds, expected.memory_bytes),
    }
    return {name: value for name, value in shown.items() if value}


def _spread(counts: dict[str, float]) -> str:
    return f"{counts['min']:g} to {counts['max']:g} a row, median {counts['median']:g}"


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
        "memory_bytes": front.study.peak_bytes,
        "expected": front.study.estimate and front.study.estimate.model_dump(),
        "points": len(front.points),
        "best": best and {"trial": best.trial, FLOPS.figure: flops_of(best), "drop": drop_of(front, best)},
        "presets": {v.name: verdict_of(v) for v in front.study.presets},
        "presets_not_beaten": [v.name for v in front.study.presets if not v.beaten],
        "report": str(outcome.output / "report.html"),
    }


def _show_pairs(title: str, values: dict[str, Any]) -> None:
    rows = table(title, "what")
    rows.add_column("value")
    for name, value in values.items():
        if isinstance(value, dict):
            value = ", ".join(f"{n} {k}" for k, n in value.items())
        shown = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        rows.add_row(name.replace("_", " "), shown)
    stdout().print(rows)


def _show_next(outcome: RunOutcome, front: FrontFile, study: str) -> None:
    from autoprune.report.export import NoPointError, select_point
    from autoprune.report.overview import recommended
    from autoprune.report.page import shown_path
    from autoprune.search.estimate import amounts

    folder = shown_path(outcome.output)
    if outcome.interrupted:
        note(f"stopped early; to resume: autoprune calibrate {study}")
    elif expected := front.study.estimate:
        took = amounts(front.study.seconds, front.study.peak_bytes)
        note(f"took {took}; expected: {amounts(expected.seconds, expected.memory_bytes)}")
    note(f"report: {folder / 'report.html'}")
    try:
        select_point(front, max_drop=_SHOWN_DROP)
        note(f"take a schedule: autoprune export {folder} --max-drop {_SHOWN_DROP:g} -o schedule.json")
    except NoPointError as error:
        note(error.message)
        if (nearest := recommended(front)) is not None:
            note(f"take it all the same: autoprune export {folder} --trial {nearest.trial} -o schedule.json")
