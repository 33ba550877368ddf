"""HiMAP's analysis as tables for a terminal."""

from __future__ import annotations

from rich.table import Table

from autoprune.analysis.flow.study import FlowAnalysis, FlowSummary
from autoprune.cli.output import stdout, table
from autoprune.evaluate.statistics import Curve
from autoprune.report.words import interval, percent, points

_FLOWS = ("visual_to_text", "visual_to_visual", "text_to_visual", "text_to_text")
_READING = ("text←image", "image←image", "image←text", "text←text")


def show(result: FlowAnalysis, measure: str, by_task: bool) -> None:
    """Print the flows and the cuts layer by layer, and what the rule proposes."""
    console, part = stdout(), result.overall
    title = f"{part.samples} rows, accuracy {percent(part.accuracy)}; flow ({measure}), 95 % intervals"
    rows = table(title, "layer", *_READING)
    for layer in range(result.layers):
        rows.add_row(str(layer), *(_value(part.flows[measure][name], layer, measure) for name in _FLOWS))
    console.print(rows)
    console.print()
    console.print(_cuts(result))
    if by_task and result.tasks:
        console.print()
        console.print(_tasks(result))
    if result.silent:
        console.print(f"{result.silent} rows without any gradient are left out of the flows")
    console.print(_proposal(part))


def _cuts(result: FlowAnalysis) -> Table:
    where = "from" if result.window is None else "in"
    behind = {None: " on", 1: ""}.get(result.window, f" and the {(result.window or 0) - 1} behind it")
    rows = table(
        "points of accuracy lost when edges are cut, and beside it with as many random edges cut",
        *("cut " + where + " layer" + behind, "text←image", "random", "image←image", "random"),
    )
    for layer in range(result.layers):
        curves = [
            result.overall.cuts[cut][arm]["accuracy_drop"]
            for cut in ("visual_to_text", "visual_to_visual")
            for arm in ("cut", "random")
        ]
        rows.add_row(str(layer), *(_lost(curve, layer) for curve in curves))
    return rows


def _tasks(result: FlowAnalysis) -> Table:
    rows = table(
        "by task: where half of what text reads from the image is read, HiMAP's layers, points lost by cuts at K1",
        *("task", "rows", "accuracy", "half read before", "K1", "K2", "text←image", "image←image"),
    )
    shared = result.overall.proposal.layers[0]
    for name, part in result.tasks.items():
        half = next((k for k, left in enumerate(part.proposal.to_text.mean) if (left or 0.0) <= 0.5), None)
        lost = [
            "–" if shared is None else _lost(part.cuts[cut]["cut"]["accuracy_drop"], shared)
            for cut in ("visual_to_text", "visual_to_visual")
        ]
        rows.add_row(
            name, str(part.samples), percent(part.accuracy), _layer(half), *map(_layer, part.proposal.layers), *lost
        )
    return rows


def _proposal(part: FlowSummary) -> str:
    first, second = part.proposal.layers
    if first is None or second is None:
        return "HiMAP: these curves propose no two layers; too much flow out of the image is to come in deep layers"
    early, late = part.proposal.to_text.mean[first], part.proposal.to_all.mean[second]
    keeps = [f"{share * 100:g} %" for share in part.proposal.keep]
    return (
        f"HiMAP: K1 = {first}, keep {keeps[0]} ({percent(early)} of what text reads from the image is to come), "
        f"K2 = {second}, keep {keeps[1]} ({percent(late)} of all that is read from the image is to come)"
    )


def _value(curve: Curve, layer: int, measure: str) -> str:
    mean, low, high = curve.mean[layer], curve.low[layer], curve.high[layer]
    if mean is None:
        return "–"
    if measure == "share":
        return f"{percent(mean)} {interval((low, high))}"
    return f"{mean:.3g} [{low:.3g}, {high:.3g}]"


def _lost(curve: Curve, layer: int) -> str:
    mean = curve.mean[layer]
    return "–" if mean is None else f"{points(mean)} {interval((curve.low[layer], curve.high[layer]))}"


def _layer(layer: int | None) -> str:
    return "–" if layer is None else str(layer)
