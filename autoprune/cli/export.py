"""``autoprune export``: one point of a front as a schedule file."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.failures import InputError
from autoprune.cli.options import Debug, Force, Json, Run, output
from autoprune.cli.output import emit, note, stderr, stdout
from autoprune.cli.prologue import STDOUT, Target, check_targets

if TYPE_CHECKING:
    from rich.console import Console

    from autoprune.report.exported import Claim
    from autoprune.search.front import FrontFile


def export(
    run: Run,
    output: Annotated[str, output("Schedule file to write; - = stdout.")],
    max_drop: Annotated[
        list[str] | None,
        typer.Option(
            "--max-drop",
            metavar="X",
            help="Cheapest point that loses at most X (default 0.01), or task=X in one task; may be repeated.",
        ),
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option("--confidence", metavar="P", help="With --max-drop: how sure the bounds must be, such as 0.95."),
    ] = None,
    max_flops: Annotated[
        float | None, typer.Option("--max-flops", metavar="X", help="Best point with at most this share of the FLOPs.")
    ] = None,
    max_latency_ms: Annotated[
        float | None,
        typer.Option("--max-latency-ms", metavar="X", help="Best point with at most this prefill time, as measured."),
    ] = None,
    max_kv: Annotated[
        float | None, typer.Option("--max-kv", metavar="X", help="Best point with at most this share of the KV cache.")
    ] = None,
    trial: Annotated[int | None, typer.Option("--trial", metavar="N", help="The point of this trial.")] = None,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Save one point of a front as a schedule: the cheapest within a loss, the best within a budget, or a trial."""
    from autoprune.evaluate.objectives import FLOPS, FLOPS_END_TO_END
    from autoprune.report.exported import claim_of, export_notes, exported
    from autoprune.report.reading import flops_of, held_out
    from autoprune.report.wishes import Wish
    from autoprune.search.front import FrontFile

    to_stdout = output == STDOUT
    if to_stdout and as_json:
        raise InputError("writes to stdout, and so does --json", field="--output", value=output, remedy="drop one")
    if not to_stdout:
        check_targets(force, Target("--output", output))
    front = FrontFile.load(run)
    wish = Wish.of(
        front,
        max_drop=_bounds(max_drop),
        max_flops=max_flops,
        max_latency_ms=max_latency_ms,
        max_kv=max_kv,
        trial=trial,
        confidence=confidence,
    )
    claim = claim_of(front, wish, record=run)
    schedule = exported(front, claim)
    if to_stdout:
        sys.stdout.write(schedule.to_json())
    else:
        schedule.save(output)
    if as_json:
        point = claim.point
        chosen = {
            "trial": point.trial,
            "name": point.name,
            FLOPS.figure: flops_of(point),
            FLOPS_END_TO_END.figure: held_out(point).flops_ratio_end_to_end,
            "drop": claim.drop,
        }
        emit(
            {
                "written": output,
                **chosen,
                "export": export_notes(front, claim),
                "schedule": schedule.to_json_dict(),
            }
        )
        return
    _show(stderr() if to_stdout else stdout(), front, claim)
    if not to_stdout:
        stdout().print(f"written: {output}")
    if claim.standing and claim.standing.promises > 1:
        note(_standing_words(claim))


def _show(console: Console, front: FrontFile, claim: Claim) -> None:
    from autoprune.report.reading import flops_of, held_out, point_name, quality_of
    from autoprune.report.words import cost_and_loss, share_or_not_priced, stage_words

    console.print(f"{point_name(claim.point)}: {cost_and_loss(flops_of(claim.point), claim.drop, quality_of(front))}")
    console.print(f"  FLOPs end to end: {share_or_not_priced(held_out(claim.point).flops_ratio_end_to_end)}")
    for line in _certainty(front, claim):
        console.print(f"  {line}")
    for stage in claim.point.schedule.stages:
        console.print(f"  {stage_words(stage)}")


def _certainty(front: FrontFile, claim: Claim) -> list[str]:
    """How sure the claim is, line by line."""
    from autoprune.evaluate.objectives import ACCURACY
    from autoprune.report.reading import quality_of
    from autoprune.report.words import percent

    unit, said = quality_of(front).unit, []
    if claim.corrected:
        added = unit.change(claim.drop - claim.measured, 2)
        said.append(
            f"measured {unit.loss(claim.measured)}; {added} added, because the choice favours what was lucky here"
        )
    if claim.promise:
        sure = f"{100 * (claim.wish.confidence or 0):g} %"
        said.append(f"promised: it keeps its bound with {sure} confidence")
    elif claim.risk is not None:
        said.append(f"risk that it breaks its bound: {percent(claim.risk, 0)}; --confidence 0.95 promises one")
    elif claim.wish.bounds and quality_of(front) == ACCURACY:
        said.append("its risk is not known: front.json holds no verdicts of its single validation rows")
    return said


def _standing_words(claim: Claim) -> str:
    assert claim.standing is not None, "asked for a promise that was recorded"
    together = f"{100 * claim.standing.together:.4g} %"
    return (
        f"These validation rows have been asked for {claim.standing.promises} different promises. Each holds with its "
        f"own confidence; that all of them hold is sure with {together}, and not at all for bounds that were picked by "
        "the answers to others."
    )


def _bounds(texts: list[str] | None) -> dict[str, float] | None:
    """``0.02`` and ``where=0.05`` as bounds by task."""
    from autoprune.report.wishes import ALL_ROWS

    if not texts:
        return None
    bounds: dict[str, float] = {}
    for text in texts:
        task, _, number = text.rpartition("=")
        try:
            bound = float(number)
        except ValueError:
            remedy = "give a share such as 0.02, or task=0.02"
            raise InputError("is no number", field="--max-drop", value=text, remedy=remedy) from None
        if (task or ALL_ROWS) in bounds:
            what = f"the task {task}" if task else "all rows"
            raise InputError(f"bounds {what} twice", field="--max-drop", value=text, remedy="give one bound for each")
        bounds[task or ALL_ROWS] = bound
    return bounds
