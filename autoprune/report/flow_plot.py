"""HiMAP's analysis as one picture: where information flows between image and text, and what cutting the flow costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from autoprune.analysis.flow.study import FlowAnalysis
from autoprune.evaluate.statistics import Array, Curve
from autoprune.report.png import plain, write_png
from autoprune.report.words import percent

_INK, _TEXT, _IMAGE, _FAINT = "#1c1e23", "#0b5fa5", "#b8480b", "#8b9099"
_PANELS = (
    ("visual_to_text", "text reads image", _TEXT),
    ("visual_to_visual", "image reads image", _IMAGE),
    ("text_to_visual", "image reads text", "#5b7f4f"),
    ("text_to_text", "text reads text", "#6b4f8a"),
)
_MEASURES = {
    "share": "share of all saliency",
    "summed": "saliency, summed",
    "per-token": "saliency per token that is read",
    "read": "saliency per token that reads",
}
_CUTS = (
    ("visual_to_text", "text no longer reads the image", _TEXT),
    ("visual_to_visual", "the image no longer reads itself", _IMAGE),
)


def flow_png(found: FlowAnalysis, path: str | Path, measure: str = "share", by_task: bool = False) -> None:
    """Draw one panel for each direction, and two for what cutting the flow costs, with 95 % bands.

    Args:
        found: The analysis.
        path: Where the picture goes; its ending says in which format.
        measure: Which measure of the flow.
        by_task: Add a thin line for each task.
    """
    figure = Figure(figsize=(13, 7.6), dpi=120, layout="constrained")
    grid = figure.subplots(2, 3, sharex=True)
    shared: Axes | None = None
    for place, (direction, title, colour) in zip(((0, 0), (0, 1), (1, 0), (1, 1)), _PANELS, strict=True):
        axes: Axes = grid[place]
        if shared is not None:
            axes.sharey(shared)
        shared = shared or axes
        if by_task:
            _tasks(axes, {name: part.flows[measure][direction] for name, part in found.tasks.items()})
        _band(axes, found.overall.flows[measure][direction], colour)
        axes.set_title(title, loc="left", color=colour, fontweight="bold")
        if measure == "share":
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
        if place[1] == 0:
            axes.set_ylabel(_MEASURES[measure])
    grid[0, 0].set_ylim(bottom=0)  # after all are drawn: they share it
    _costs(grid[0, 2], found, "accuracy_drop", "accuracy lost")
    _costs(grid[1, 2], found, "probability_drop", "probability of the right answer lost")
    for axes in grid.flat:
        _stages(axes, found.overall.proposal.layers)
        axes.grid(color="#e3e0d9", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in grid[1, :2]:
        axes.set_xlabel("layer")
    grid[1, 2].set_xlabel(_onset(found.window))
    if by_task and found.tasks:
        handles, names = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=8, fontsize=8, frameon=False)
    figure.suptitle(_title(found), x=0.01, ha="left", fontsize=12, fontweight="bold", color=_INK)
    write_png(figure, path)


def _band(axes: Axes, curve: Curve, colour: str, label: str | None = None, style: str = "-") -> None:
    mean, low, high = (_numbers(end) for end in (curve.mean, curve.low, curve.high))
    layers = np.arange(len(mean))
    axes.plot(layers, mean, style, color=colour, linewidth=1.8, marker="o", markersize=3, label=label)
    axes.fill_between(layers, low, high, color=colour, alpha=0.16, linewidth=0)


def _tasks(axes: Axes, curves: dict[str, Curve]) -> None:
    for number, (name, curve) in enumerate(curves.items()):
        colour = colormaps["tab20"](number % 20)
        axes.plot(np.arange(len(curve.mean)), _numbers(curve.mean), color=colour, linewidth=0.8, label=plain(name))


def _costs(axes: Axes, found: FlowAnalysis, metric: str, title: str) -> None:
    for cut, words, colour in _CUTS:
        _band(axes, found.overall.cuts[cut]["cut"][metric], colour, words)
        _band(axes, found.overall.cuts[cut]["random"][metric], colour, "as many random edges", ":")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=None))
    axes.set_title(title, loc="left", fontweight="bold")
    axes.axhline(0, color=_FAINT, linewidth=0.8)
    axes.legend(fontsize=8, framealpha=0.9)


def _stages(axes: Axes, layers: tuple[int | None, ...]) -> None:
    for number, layer in enumerate(layers, start=1):
        if layer is not None:
            axes.axvline(layer - 0.5, color=_FAINT, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(
                f"K{number}", (layer - 0.5, 1), xycoords=("data", "axes fraction"), xytext=(3, -10),
                textcoords="offset points", color=_FAINT, fontsize=8,
            )  # fmt: skip


def _onset(window: int | None) -> str:
    if window is None:
        return "cut from this layer on"
    return "cut in this layer" if window == 1 else f"cut in {window} layers from this one on"


def _title(found: FlowAnalysis) -> str:
    asked = "the first answer token" if found.loss == "first" else "the whole answer"
    dense = f"accuracy {percent(found.overall.accuracy)}"
    return f"Information flow for {asked}: {found.overall.samples} rows, {dense}, 95 % bands"


def _numbers(values: list[float | None]) -> Array:
    return np.array(values, dtype=float)  # None becomes NaN
