"""The front as one picture that can be read alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from autoprune.report.chart import below_frame, label_sides, stands_inside, visible_range
from autoprune.report.overview import recommended
from autoprune.report.png import plain, write_png
from autoprune.report.reading import (
    drop_of,
    everything,
    explored_trials,
    flops_of,
    height_of,
    is_estimate,
    lacks_held_out,
    model_name,
    pruned_points,
    quality_interval,
    quality_of,
)
from autoprune.report.words import percent
from autoprune.search.front import FrontFile, Point

_INK, _FRONT, _PRESET, _FAINT = "#1c1e23", "#0b5fa5", "#b8480b", "#8b9099"


def front_png(front: FrontFile, path: str | Path) -> None:
    """Draw the front with 95 % intervals, the dense point, every published method by name and all explored trials.

    Args:
        front: The front.
        path: Where the PNG goes.
    """
    # Figure without pyplot: no global state, no display, safe beside anything else that draws.
    figure = Figure(figsize=(9.6, 5.8), dpi=150, layout="constrained")
    axes: Axes = figure.add_subplot()
    explored = explored_trials(front)
    axes.scatter(
        [cost for cost, _, _ in explored],
        [quality for _, quality, _ in explored],
        s=9,
        color=_FAINT,
        alpha=0.35,
        label="explored (calibration rows)",
    )
    controls = [p for kind, p in everything(front) if kind == "control" and is_estimate(front, p)]
    _marks(axes, front, controls, "x", _FAINT, "same counts, random or even choice", size=4, bars=False)
    far = [p for p in pruned_points(front) if lacks_held_out(front, p)]
    on_front = [p for p in pruned_points(front) if not lacks_held_out(front, p)]
    axes.step(
        [flops_of(p) for p in on_front],
        [height_of(front, p) for p in on_front],
        where="post",
        color=_FRONT,
        linewidth=1.2,
        alpha=0.7,
    )
    _marks(axes, front, on_front, "o", _FRONT, "front (held-out rows, 95 % interval)")
    _marks(axes, front, far, "o", _FRONT, "front, calibration rows only", bars=False, hollow=True)
    presets = [p for p in front.baselines if p.schedule.stages]
    _marks(axes, front, presets, "D", _PRESET, "published methods")
    _names(axes, front, presets, visible_range(front, [*on_front, *presets, front.dense])[0])
    _marks(axes, front, [front.dense], "*", _INK, "dense", size=13)
    if best := recommended(front):
        axes.plot(
            flops_of(best),
            height_of(front, best),
            "o",
            markersize=15,
            markerfacecolor="none",
            markeredgecolor=_INK,
            markeredgewidth=1.3,
        )
    _frame(axes, front, [*on_front, *presets, front.dense])
    write_png(figure, path)


def _names(axes: Axes, front: FrontFile, presets: list[Point], low: float) -> None:
    """The published methods' names; those below the frame stand at its edge, with their value."""
    inside = [p for p in presets if stands_inside(front, p, low)]
    places = [(flops_of(p), height_of(front, p)) for p in inside]
    for point, place, side in zip(inside, places, label_sides(places), strict=True):
        offset = (6 if side.endswith("right") else -6, 5 if side.startswith("top") else -12)
        align = "left" if side.endswith("right") else "right"
        name = plain(point.name)
        axes.annotate(name, place, textcoords="offset points", xytext=offset, ha=align, color=_PRESET, fontsize=9)
    for x, line, text in below_frame(front, presets, low):
        place = (-4, 4 + 11 * line)
        axes.annotate(plain(text), (x, low), textcoords="offset points", xytext=place, color=_PRESET, fontsize=9)


def _marks(
    axes: Axes,
    front: FrontFile,
    group: list[Point],
    marker: str,
    colour: str,
    label: str,
    *,
    size: float = 6.5,
    bars: bool = True,
    hollow: bool = False,
) -> None:
    if not group:
        return
    x, y = [flops_of(p) for p in group], [height_of(front, p) for p in group]
    spread: Any = None
    ends = [end for p in group if (end := quality_interval(front, p))]
    if bars and ends:
        spread = [
            [max(0.0, h - e[0]) for e, h in zip(ends, y, strict=True)],
            [max(0.0, e[1] - h) for e, h in zip(ends, y, strict=True)],
        ]
    face = "none" if hollow else colour
    axes.errorbar(
        x, y, yerr=spread, fmt=marker, color=colour, mfc=face, markersize=size, elinewidth=1, capsize=2.5, label=label
    )


def _frame(axes: Axes, front: FrontFile, named: list[Point]) -> None:
    low, high, _ = visible_range(front, named)
    axes.set(xlim=(0, 1.04), ylim=(low, high))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if quality_of(front).more_is_better:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("prefill FLOPs, share of dense (decoder layers over the whole prompt, plus scoring)")
    axes.set_ylabel(quality_of(front).label)
    axes.grid(color="#e3e0d9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", fontsize=8.5, framealpha=0.9)
    axes.set_title(plain(_title(front)), loc="left", fontsize=12, fontweight="bold", color=_INK)


def _title(front: FrontFile) -> str:
    name, best = f"{front.study.name} · {model_name(front.model)}", recommended(front)
    if best is None:
        return name
    drop = drop_of(front, best) or 0.0
    lost = quality_of(front).unit.loss(drop)
    return f"{name}\nringed: {percent(flops_of(best), 0)} of the prefill FLOPs for a loss of {lost}"
