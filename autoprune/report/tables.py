"""Every measured schedule: its card, and its row in the table that can be sorted and filtered."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.evaluate.objectives import ACCURACY, FLOPS, KL, KV_BYTES, LATENCY
from autoprune.report.drawings import Drawing, large_drawing, small_drawing
from autoprune.report.reading import (
    drop_interval,
    drop_of,
    everything,
    flops_of,
    height_of,
    held_out,
    point_name,
    quality_interval,
    quality_of,
    worst_task,
)
from autoprune.report.words import criterion_class, interval, milliseconds, percent, stage_words
from autoprune.search.front import FrontFile, Point

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
    heads = ["Schedule", "Tokens over depth", FLOPS.short, row.short, drop, "Worst task", kl, KV_BYTES.short]
    return [*heads, LATENCY.short, "End to end"]


def table_rows(front: FrontFile) -> list[TableRow]:
    """A row for every measured schedule."""
    layers, visual = front.model.num_layers, front.study.visual_tokens
    return [
        TableRow(
            kind=kind,
            name=point_name(point),
            key="" if kind == "control" else key_of(kind, point),
            drawing=small_drawing(point.schedule, layers, visual),
            depth=min((s.layer for s in point.schedule.stages), default=layers),
            cells=_cells(front, point),
            drop=drop_of(front, point),
            flops=flops_of(point),
            search=" ".join([point_name(point), kind, *map(stage_words, point.schedule.stages)]).lower(),
        )
        for kind, point in everything(front)
    ]


def _cells(front: FrontFile, point: Point) -> list[TableCell]:
    row, figures, pruned = quality_of(front), held_out(point), bool(point.schedule.stages)
    drop, worst, height = drop_of(front, point), worst_task(front, point), height_of(front, point)
    times = point.latency
    prefill, whole = (times.prefill_ms, times.end_to_end_ms) if times else (None, None)
    return [
        TableCell(percent(flops_of(point)), "", flops_of(point)),
        TableCell(row.unit.value(height), interval(quality_interval(front, point)), height),
        TableCell(row.unit.change(drop), interval(drop_interval(front, point)) if pruned else "", drop),
        TableCell(row.unit.change(worst[1]), worst[0], worst[1]) if worst and pruned else TableCell("–"),
        TableCell(KL.unit.value(figures.kl), "", figures.kl),
        TableCell(percent(figures.kv_ratio), "", figures.kv_ratio),
        TableCell(milliseconds(prefill), "", prefill),
        TableCell(milliseconds(whole), "", whole),
    ]


def _facts(front: FrontFile, point: Point) -> list[tuple[str, str]]:
    row, figures = quality_of(front), held_out(point)
    found = [(ACCURACY.short, f"{percent(figures.accuracy)} {interval(figures.accuracy_ci)}")]
    drop, low_high = drop_of(front, point), drop_interval(front, point)
    if drop is not None and point.schedule.stages:
        found.append(("Drop", f"{row.unit.loss(drop)} {interval(low_high)}".rstrip()))
    if (worst := worst_task(front, point)) and worst[1] > 0:
        found.append(("Worst task", f"{worst[0]}: −{row.unit.loss(worst[1])}"))
    found += [
        ("Prefill FLOPs", f"{percent(flops_of(point))} of dense"),
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
