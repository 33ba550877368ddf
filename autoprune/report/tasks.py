"""The per-task view: a heat map in which a task that collapses behind a good average cannot hide."""

from __future__ import annotations

from html import escape

from autoprune.report.cards import key_of
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
from autoprune.report.words import percent, point_name, points

_FULL_TONE = 0.20  # a loss of 20 points has the strongest tone


def task_section(front: Front) -> str:
    """The section as HTML; nothing when there are fewer than two tasks."""
    tasks = task_names(front)
    if len(tasks) < 2:
        return ""
    kl = quality_of(front).key == "kl"
    shown = [(k, p) for k, p in everything(front) if k in ("front", "preset")]
    head = "".join(f'<th scope="col">{escape(t)}</th>' for t in tasks)
    dense = held_out(front["dense"])["tasks"]
    base = "".join(
        f"<td>{dense[t]['kl']:.2f}</td>" if kl else f"<td>{points(dense[t].get(quality_of(front).key), 0)} %</td>"
        for t in tasks
    )
    rows = "".join(
        _row(front, kind, point, tasks, kl) for kind, point in sorted(shown, key=lambda item: flops_of(item[1]))
    )
    unit = "nats more than dense" if kl else "points of accuracy lost against dense (negative: gained)"
    note = f"Each cell: {unit}; each point’s worst task is framed. One task alone has few rows, so differences of a few points are noise."
    return (
        f'<section aria-labelledby="tasks"><h2 id="tasks">Task by task</h2><p class="note">{note}</p>'
        f'<div class="scroll"><table class="heat"><thead><tr><th scope="col">Schedule</th><th>FLOPs</th>{head}</tr></thead>'
        f'<tbody><tr><th scope="row"><span class="dot dense"></span>dense</th><td>100 %</td>{base}</tr>{rows}</tbody></table></div></section>'
    )


def _row(front: Front, kind: str, point: Point, tasks: list[str], kl: bool) -> str:
    worst, cells = worst_task(front, point), []
    for task in tasks:
        drop = drop_of(front, point, task)
        if drop is None:
            cells.append("<td>–</td>")
            continue
        alpha = min(abs(drop) / _FULL_TONE, 1.0) * 0.62
        tone = ";--tone:var(--gain)" if drop < 0 else ""
        mark = ' class="worst"' if worst and worst[0] == task and drop > 0 else ""
        cells.append(f'<td{mark} style="--a:{alpha:.2f}{tone}">{f"{drop:.2f}" if kl else points(drop)}</td>')
    name = escape(point_name(kind, point))
    return f'<tr data-key="{key_of(kind, point)}" tabindex="0"><th scope="row"><span class="dot {kind}"></span>{name}</th><td>{percent(flops_of(point))}</td>{"".join(cells)}</tr>'
