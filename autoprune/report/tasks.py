"""The per-task view: a heat map in which a task that collapses behind a good average cannot hide."""

from __future__ import annotations

from autoprune.report.cards import key_of
from autoprune.report.markup import cell, note, row, section, table
from autoprune.report.reading import (
    Front,
    Point,
    drop_of,
    everything,
    flops_of,
    held_out,
    quality_of,
    task_names,
    worst_task,
)
from autoprune.report.words import percent, point_name, points, quality_value

_FULL_TONE = 0.20  # a loss of 20 points, or of 0.2 nats, has the strongest tone


def task_section(front: Front) -> str:
    """The section as HTML; nothing when there are fewer than two tasks."""
    tasks = task_names(front)
    if len(tasks) < 2:
        return ""
    key, dense = quality_of(front).key, held_out(front["dense"])["tasks"]
    base = [cell("100 %"), *(cell(quality_value(key, dense[t].get(key), digits=0)) for t in tasks)]
    shown = sorted((item for item in everything(front) if item[0] in ("front", "preset")), key=lambda i: flops_of(i[1]))
    rows = [row("dense", "dense", base), *(_row(front, kind, point, tasks) for kind, point in shown)]
    unit = "nats more than dense" if key == "kl" else "points lost against dense (negative: gained)"
    few = min(dense[t]["samples"] for t in tasks)
    text = (
        f"The first row is the dense model; each cell below: {unit}. Each schedule’s worst task is framed. "
        f"A task has {few} rows or a few more: differences of a few points are noise."
    )
    return section("tasks", "Task by task", note(text) + table(["Schedule", "FLOPs", *tasks], rows, 'class="heat"'))


def _row(front: Front, kind: str, point: Point, tasks: list[str]) -> str:
    worst, cells = worst_task(front, point), [cell(percent(flops_of(point)))]
    for task in tasks:
        drop = drop_of(front, point, task)
        if drop is None:
            cells.append(cell("–"))
            continue
        alpha = min(abs(drop) / _FULL_TONE, 1.0) * 0.62
        tone = ";--tone:var(--gain)" if drop < 0 else ""
        frame = 'class="worst" ' if worst and worst[0] == task and drop > 0 else ""
        shown = f"{drop:.2f}" if quality_of(front).key == "kl" else points(drop)
        cells.append(cell(shown, f'{frame}style="--a:{alpha:.2f}{tone}"'))
    return row(kind, point_name(kind, point), cells, key_of(kind, point))
