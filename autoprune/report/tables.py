"""Every measured schedule: its card, and its row in the table that can be sorted and filtered."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.evaluate.objectives import ACCURACY, FLOPS, KL, KV_BYTES, LATENCY
from autoprune.report.drawings import Drawing, large_drawing, small_drawing
from autoprune.report.reading import (
    calibration_drop,
    drop_interval,
    drop_of,
    everything,
    flops_of,
    height_of,
    held_out,
    is_estimate,
    lacks_held_out,
    optimism,
    point_name,
    quality_interval,
    quality_of,
    worst_task,
)
from autoprune.report.words import criterion_class, interval, listed, milliseconds, percent, stage_words
from autoprune.search.front import Control, FrontFile, Point

KINDS = {"dense": "dense", "front": "front", "preset": "published methods", "control": "controls"}
"""Kinds of points, with their name in a legend; each kind has its own dot."""
_CARD_KINDS = {"front": "on the front", "preset": "published method, as a preset", "dense": "the unpruned model"}


def key_of(kind: str, point: Point) -> str:
    """Key that ties a card, a table row and a mark of the chart together."""
    return f"{kind}-{point.trial}"


@dataclass(frozen=True)
class Card:
    """One schedule: its drawing, its stages in words, its figures, and how to take it.

    Attributes:
        steps: Colour class and words of each stage.
        command: Exports it; empty for the dense model.
    """

    key: str
    name: str
    kind: str
    drawing: Drawing
    steps: list[tuple[str, str]]
    facts: list[tuple[str, str]]
    command: str


@dataclass(frozen=True)
class TableCell:
    """A figure as it is shown, with a smaller text behind it, and what the column sorts by."""

    shown: str = ""
    small: str = ""
    value: float | None = None


@dataclass(frozen=True)
class TableRow:
    """One schedule in the table.

    Attributes:
        key: Of its card; empty for controls, which have none.
        search: What a search for words looks through.
    """

    kind: str
    name: str
    key: str
    drawing: Drawing
    depth: int
    cells: list[TableCell]
    drop: float | None
    flops: float
    search: str


def cards(front: FrontFile) -> list[tuple[str, Point]]:
    """Kind and point of every schedule that has a card; a preset on the front has two."""
    shown = [(kind, point) for kind, point in everything(front) if kind != "control"]
    keys = {key_of(kind, point) for kind, point in shown}
    presets = [("preset", p) for p in front.baselines if p.schedule.stages]
    return shown + [(kind, p) for kind, p in presets if key_of(kind, p) not in keys]


def card(front: FrontFile, kind: str, point: Point, run: str) -> Card:
    """The card of a point.

    Args:
        front: The front.
        kind: ``front``, ``preset`` or ``dense``.
        point: The point.
        run: The output folder as the commands on the page name it.
    """
    return Card(
        key=key_of(kind, point),
        name=point_name(point),
        kind=_CARD_KINDS[kind],
        drawing=large_drawing(point.schedule, front.model.num_layers, front.study.visual_tokens),
        steps=[(criterion_class(s.criterion), stage_words(s)) for s in point.schedule.stages],
        facts=_facts(front, point),
        command="" if kind == "dense" else f"autoprune export {run} --trial {point.trial} -o schedule.json",
    )


def table_heads(front: FrontFile) -> list[str]:
    """Heads of the table's columns."""
    row = quality_of(front)
    drop, kl = f"Drop ({row.unit.difference})", f"{KL.short} ({KL.unit.difference})"
    heads = ["Schedule", "Tokens over depth", FLOPS.short, row.short, drop, "On calibration", "Worst task", kl]
    return [*heads, KV_BYTES.short, LATENCY.short]


def table_rows(front: FrontFile) -> list[TableRow]:
    """A row for every measured schedule; the figures are held-out ones, but for the drop on calibration rows."""
    layers, visual = front.model.num_layers, front.study.visual_tokens
    return [
        TableRow(
            kind=kind,
            name=point_name(point),
            key="" if kind == "control" else key_of(kind, point),
            drawing=small_drawing(point.schedule, layers, visual),
            depth=min((s.layer for s in point.schedule.stages), default=layers),
            cells=_cells(front, point),
            drop=drop_of(front, point) if _is_shown(front, point) else None,
            flops=flops_of(point),
            search=" ".join([point_name(point), kind, *map(stage_words, point.schedule.stages)]).lower(),
        )
        for kind, point in everything(front)
    ]


def _is_shown(front: FrontFile, point: Point) -> bool:
    """Whether the held-out columns have something to show of a point."""
    return is_estimate(front, point) and not lacks_held_out(front, point)


def _cells(front: FrontFile, point: Point) -> list[TableCell]:
    row, figures, pruned = quality_of(front), held_out(point), bool(point.schedule.stages)
    on_calibration = _calibration_cell(front, point)
    if not _is_shown(front, point):
        nothing, rows = TableCell("–"), "calibration only" if is_estimate(front, point) else f"{point.samples} rows"
        cost = TableCell(percent(flops_of(point)), "", flops_of(point))
        kv = TableCell(percent(figures.kv_ratio), "", figures.kv_ratio)
        return [cost, TableCell("–", rows), nothing, on_calibration, nothing, nothing, kv, nothing]
    drop, worst, height = drop_of(front, point), worst_task(front, point), height_of(front, point)
    prefill = point.latency.prefill_ms if point.latency else None
    return [
        TableCell(percent(flops_of(point)), "", flops_of(point)),
        TableCell(row.unit.value(height), interval(quality_interval(front, point)), height),
        TableCell(row.unit.change(drop), interval(drop_interval(front, point)) if pruned else "", drop),
        on_calibration,
        TableCell(row.unit.change(worst[1]), worst[0], worst[1]) if worst and pruned else TableCell("–"),
        TableCell(KL.unit.value(figures.kl), "", figures.kl),
        TableCell(percent(figures.kv_ratio), "", figures.kv_ratio),
        TableCell(milliseconds(prefill), "", prefill),
    ]


def _calibration_cell(front: FrontFile, point: Point) -> TableCell:
    """The drop on the rows of the search, and how much larger the held-out one is."""
    if isinstance(point, Control) and (point.measured_on == "validation" or not is_estimate(front, point)):
        return TableCell("–")
    unit, drop, gap = quality_of(front).unit, calibration_drop(front, point), optimism(front, point)
    small = "" if gap is None or not point.schedule.stages else f"{'+' if gap > 0 else ''}{unit.change(gap)}"
    return TableCell(unit.change(drop), small, drop)


def _facts(front: FrontFile, point: Point) -> list[tuple[str, str]]:
    row, figures = quality_of(front), held_out(point)
    found = [(ACCURACY.short, f"{percent(figures.accuracy)} {interval(figures.accuracy_ci)}")]
    if lacks_held_out(front, point):
        found.insert(0, ("Rows", f"calibration only: {point.left_out or 'the study stopped before its validation'}"))
    drop, low_high = drop_of(front, point), drop_interval(front, point)
    if drop is not None and point.schedule.stages:
        found.append(("Drop", f"{row.unit.loss(drop)} {interval(low_high)}".rstrip()))
    if (worst := worst_task(front, point)) and worst[1] > 0:
        found.append(("Worst task", f"{worst[0]}: −{row.unit.loss(worst[1])}"))
    if (gap := optimism(front, point)) is not None and point.schedule.stages:
        moved = f"{row.unit.change(abs(gap))} {'more' if gap > 0 else 'less'} on held-out rows"
        found.append(("Drop on calibration", f"{row.unit.loss(calibration_drop(front, point))}; {moved}"))
    if better := [mark.against for mark in point.marks or () if mark.decided]:
        found.append(("Better than", f"{listed(better)}, at no higher cost"))
    found += [
        ("Prefill FLOPs", f"{percent(flops_of(point))} of dense{_spread(point)}"),
        (KV_BYTES.label, f"{percent(figures.kv_ratio)} of dense"),
        (KL.short, f"{figures.kl:.3g} nats, p90 {figures.kl_p90:.3g}"),
        ("Same answer as dense", percent(figures.agreement)),
    ]
    if times := point.latency:
        for name, own, dense in (
            (LATENCY.short, times.prefill_ms, times.prefill_dense_ms),
            ("End to end", times.end_to_end_ms, times.end_to_end_dense_ms),
        ):
            if own is not None:
                found.append((name, f"{milliseconds(own)} (dense {milliseconds(dense)})"))
    return found


def _spread(point: Point) -> str:
    """How the cost varies from input to input, where it does."""
    spread = point.spread
    return f" (inputs: {percent(spread.p10, 0)} to {percent(spread.p90, 0)}, 80 % of them)" if spread else ""
