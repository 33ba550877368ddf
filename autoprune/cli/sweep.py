"""``autoprune sweep``: withdrawal of all visual tokens before every layer, and the layer to take (VTW)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoprune.cli.options import Data, Debug, Force, Json, Loading, MaxNewTokens, Model, Plot, Reading, output
from autoprune.cli.output import emit, note, stdout, table
from autoprune.cli.prologue import Target, check_targets, opened, read_visual_rows

if TYPE_CHECKING:
    from autoprune.analysis.withdrawal.study import SweepResult, WithdrawalCurve


def sweep(
    model: Model,
    data: Data,
    loading: Loading,
    reading: Reading,
    rule: Annotated[
        str,
        typer.Option("--rule", help="robust: this and all deeper layers surely below eta; or vtw-compat, the paper's."),
    ] = "robust",
    eta: Annotated[
        float, typer.Option("--eta", metavar="NATS", help="Bound of the rule; the default is VTW's for LLaVA-1.5-7B.")
    ] = 0.003,
    max_new_tokens: MaxNewTokens = 32,
    output: Annotated[str | None, output("Schedule file to write: withdrawal before the chosen layer.")] = None,
    plot: Plot = None,
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure the withdrawal of all visual tokens before every layer at once, and choose a layer (VTW)."""
    check_targets(force, Target("--output", output), Target("--plot", plot, ".png"))
    from autoprune.analysis.withdrawal.layer_choice import checked_rule
    from autoprune.analysis.withdrawal.study import sweep as run_sweep

    rows = read_visual_rows(data, reading)
    known = checked_rule(rule, eta, rows)
    with opened(model, loading, rows) as job:
        result = run_sweep(
            job.model,
            rows,
            rule=known,
            eta=eta,
            max_new_tokens=max_new_tokens,
            on_sample=job.counts("sweeping all layers"),
        )
    schedule = result.schedule(job.model)
    if output is not None:
        schedule.save(output)
    if plot is not None:
        from autoprune.report.sweep_plot import sweep_png

        sweep_png(result, plot, model)
    if as_json:
        emit({"model": model, **result.to_dict(), "schedule": schedule.to_json_dict()})
    else:
        _show(result)
    if output is not None and result.layer is None:
        note("no layer qualifies: the schedule withdraws nothing")
    written = [file for file in (output, plot) if file is not None]
    if written:
        note(f"written: {', '.join(written)}")


def _show(result: SweepResult) -> None:
    from autoprune.report.words import percent

    columns = ("first token: KL", "answer: KL", "bound", "90 % are below", "reverse KL", "JS", "same answer", "FLOPs")
    title = f"withdrawal, {result.samples} rows: divergence from the dense model in nats, mean [95 %]"
    rows = table(title, "before", *columns)
    answer = result.answer
    for k, ratio in enumerate(result.flops_ratio):
        rows.add_row(
            f"layer {k}" + (" ←" if k == result.layer else ""),
            _nats(result.first["withdrawn_dense"], k),
            _nats(answer["dense_withdrawn"], k),
            _bound(result, k),
            f"{answer['dense_withdrawn'].p90[k]:.2g}",
            f"{answer['withdrawn_dense'].mean[k]:.2g}",
            f"{answer['js'].mean[k]:.2g}",
            percent(result.same[k]),
            percent(ratio),
        )
    console = stdout()
    console.print(rows)
    console.print(
        "first token: KL(withdrawn ‖ dense); answer: KL(dense ‖ withdrawn), mean over the dense model's answer"
    )
    for rule, layer in result.choices.items():
        words = f"withdraw before layer {layer}" if layer is not None else "do not withdraw: no layer qualifies"
        console.print(f"{rule}, eta {result.eta:g}: {words}", style="bold" if rule == result.rule else None)
    console.print(f"noise floor: {result.noise:.2g} nats (the dense model against itself on kernels of other shapes)")


def _nats(curve: WithdrawalCurve, k: int) -> str:
    ends = "" if curve.low[k] is None else f" [{curve.low[k]:.2g}, {curve.high[k]:.2g}]"
    return f"{curve.mean[k]:.2g}{ends}"


def _bound(result: SweepResult, k: int) -> str:
    if result.bound is None:
        return "–"
    value = result.bound[k]
    return "none" if value is None else f"{value:.2g}"
