"""An ablation as one HTML file that needs nothing else, and as a table for other programs."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autoprune.analysis.ablation import FACTORS, Ablation, Cell, Row
from autoprune.evaluate.statistics import Estimate
from autoprune.report.png import png_bytes
from autoprune.report.rendering import render
from autoprune.report.words import percent, points
from autoprune.schedule.files import write_whole

NAMES = {
    "himap": "HiMAP: text rows, then image rows",
    "swapped": "swapped: image rows, then text rows",
    "text": "text rows in both stages",
    "visual": "image rows in both stages",
    "last": "last prompt token in both stages",
    "random": "chance (mean of 3 draws)",
    "uniform": "evenly spaced",
}
_FACTOR_NAMES = {
    "k1": "first stage before layer",
    "k2": "second stage before layer",
    "keep1": "first stage keeps",
    "keep2": "second stage keeps",
}


def ablation_csv(found: Ablation, path: Path) -> None:
    """Write one line for every arm in every cell; shares in [0, 1], intervals at 95 %."""
    estimates = [f"{name}{end}" for name in ("accuracy", "drop", "himap_minus_arm") for end in ("", "_low", "_high")]
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow([*FACTORS, "arm", "flops_ratio", *estimates])
    for r in found.rows:
        figures = [value for e in (r.accuracy, r.drop, r.behind) for value in (e.mean, e.low, e.high)]
        writer.writerow([*asdict(r.cell).values(), r.arm, r.flops_ratio, *figures])
    write_whole(path, lines.getvalue())


@dataclass(frozen=True)
class AblationTable:
    """A table of the page with its heading; rows are a name and cells, `picture` a PNG in base64."""

    anchor: str
    title: str
    note: str
    heads: list[str]
    rows: list[tuple[str, list[str]]]
    picture: str = ""
    alt: str = ""


def ablation_page(found: Ablation, path: Path, model: str) -> None:
    """Write the page: what the grid says on average, for each factor, for each task, and cell by cell."""
    sections = [_arms(found), _factors(found), *([_tasks(found)] if found.tasks else []), _cells(found)]
    title = f"Ablation of HiMAP on {model}"
    write_whole(path, render("ablation.html.j2", title=title, lead=_lead(found), sections=sections))


def _lead(found: Ablation) -> str:
    settings = len({r.cell for r in found.rows})
    return (
        f"{found.samples} rows of {found.data}, {settings} settings, {len(found.arms)} arms each. The dense model is "
        f"right on {percent(found.dense.mean)} [{points(found.dense.low)}, {points(found.dense.high)}]. All intervals "
        "are 95 %, bootstrap over groups of rows."
    )


def _arms(found: Ablation) -> AblationTable:
    heads = ["Rows that vote", "Accuracy", "HiMAP's lead (points)"]
    heads += [f"K1 = {layer}: HiMAP's lead" for layer in found.behind_at]
    rows = [(NAMES[arm], _leads_of(found, arm, accuracy)) for arm, accuracy in found.arms.items()]
    note = "Mean over all settings, and over those of each first layer. A lead whose interval holds zero is no lead."
    alt = "Lead of HiMAP over each arm, by setting"
    return AblationTable("arms", "HiMAP against other voters", note, heads, rows, _picture(found), alt)


def _leads_of(found: Ablation, arm: str, accuracy: Estimate[float]) -> list[str]:
    leads = [found.behind, *found.behind_at.values()]
    return [_share(accuracy), *("–" if arm == "himap" else _difference(of[arm]) for of in leads)]


def _factors(found: Ablation) -> AblationTable:
    rows = [
        (f"{_FACTOR_NAMES[factor]} {_level(factor, value)}", [_share(accuracy)])
        for factor, levels in found.factors.items()
        for value, accuracy in levels.items()
    ]
    note = "HiMAP's accuracy, mean over all settings with this value."
    return AblationTable("factors", "Accuracy by layer and share", note, ["Cell", "Accuracy"], rows)


def _tasks(found: Ablation) -> AblationTable:
    others = [arm for arm in found.arms if arm != "himap"]
    rows = [(task, [points(leads[arm]) for arm in others]) for task, leads in found.tasks.items()]
    note = "HiMAP's lead in points, mean over all settings. One task has few rows: read signs, not decimals."
    return AblationTable("tasks", "Task by task", note, ["Task", *(NAMES[arm].split(":")[0] for arm in others)], rows)


def _cells(found: Ablation) -> AblationTable:
    heads = ["Cell", "Rows that vote", "FLOPs", "Accuracy", "Drop (points)", "HiMAP's lead (points)"]
    return AblationTable("cells", "Every cell", "", heads, [(_setting(r.cell), _cell_figures(r)) for r in found.rows])


def _cell_figures(r: Row) -> list[str]:
    lead = "–" if r.arm == "himap" else _difference(r.behind)
    return [NAMES[r.arm].split(":")[0], percent(r.flops_ratio), _share(r.accuracy), _difference(r.drop), lead]


def _setting(c: Cell) -> str:
    return f"{c.k1}: {c.keep1:.4g}, {c.k2}: {c.keep2:.4g}"


def _level(factor: str, value: float) -> str:
    return percent(value) if factor.startswith("keep") else f"{value:g}"


def _share(e: Estimate[float]) -> str:
    return f"{percent(e.mean)} [{points(e.low)}, {points(e.high)}]"


def _difference(e: Estimate[float]) -> str:
    return f"{points(e.mean)} [{points(e.low)}, {points(e.high)}]"


def _picture(found: Ablation) -> str:
    figure = Figure(figsize=(9.5, 4.6), dpi=130, layout="constrained")
    _leads(figure.subplots(), found)
    return base64.b64encode(png_bytes(figure)).decode()


def _leads(axes: Axes, found: Ablation) -> None:
    others = [arm for arm in found.arms if arm != "himap"]
    for y, arm in enumerate(others):
        _bars(axes, y, [r.behind for r in found.rows if r.arm == arm])
        for number, (layer, leads) in enumerate(found.behind_at.items()):
            color, mean = f"C{number}", leads[arm]
            axes.plot([100 * mean.low, 100 * mean.high], [y, y], color=color, linewidth=4, zorder=3)
            words = f"mean at K1 = {layer}"
            axes.plot(100 * mean.mean, y, "o", color=color, markersize=8, zorder=4, label=None if y else words)
    columns = min(len(found.behind_at), 4)
    axes.figure.legend(loc="outside upper center", ncols=columns, frameon=False, fontsize=9)
    axes.axvline(0, color="#1c1e23", linewidth=1)
    axes.set_yticks(range(len(others)), [NAMES[arm] for arm in others])
    axes.invert_yaxis()
    axes.set_xlabel("HiMAP's lead in points of accuracy, 95 %; grey: single settings")
    axes.spines[["top", "right"]].set_visible(False)


def _bars(axes: Axes, y: int, cells: Iterable[Estimate[float]]) -> None:
    found = list(cells)
    for i, e in enumerate(found):
        place = y + 0.36 * ((i + 1) / (len(found) + 1) - 0.5) * 2
        axes.plot([100 * e.low, 100 * e.high], [place, place], color="#c9ccd1", linewidth=1, zorder=1)
        axes.plot(100 * e.mean, place, ".", color="#8b9099", markersize=4, zorder=2)
