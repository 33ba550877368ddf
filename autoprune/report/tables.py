"""The tables of the page: every measured schedule, the published methods, the control arms."""

from __future__ import annotations

from html import escape

from autoprune.report.cards import key_of
from autoprune.report.drawings import small_drawing
from autoprune.report.reading import (
    Front,
    Point,
    drop_interval,
    drop_of,
    everything,
    flops_of,
    held_out,
    pruned_points,
    quality_of,
    worst_task,
)
from autoprune.report.words import interval, milliseconds, percent, point_name, points, stage_words

_KINDS = {"dense": "dense", "front": "front", "preset": "published methods", "control": "controls"}


def points_table(front: Front) -> str:
    """Filters and the table that they filter."""
    kinds = "".join(
        f'<label><input type="checkbox" id="filter-{k}"{"" if k == "control" else " checked"}><span class="dot {k}"></span>{name}</label>'
        for k, name in _KINDS.items()
    )
    filters = (
        f'<div class="filters"><label>Find <input type="search" id="filter-words" placeholder="name, layer, criterion"></label>{kinds}'
        '<label>drop ≤ <input type="number" id="filter-drop" step="0.5"> points</label>'
        '<label>FLOPs ≤ <input type="number" id="filter-flops" step="5" min="0" max="100"> %</label><span class="note" id="shown" style="margin:0"></span></div>'
    )
    quality = quality_of(front)
    heads = [
        "Schedule",
        "Tokens over depth",
        "Prefill FLOPs",
        quality.label.split(" ")[0].capitalize(),
        "Drop (points)",
        "Worst task",
        "KL (nats)",
        "KV cache",
        "Prefill",
        "End to end",
    ]
    head = "".join(f'<th scope="col"><button type="button">{h}</button></th>' for h in heads)
    rows = "".join(_row(front, kind, point) for kind, point in everything(front))
    return f'{filters}<div class="scroll"><table id="points"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def presets_table(front: Front) -> str:
    """Which published methods the front beats, and which it does not."""
    verdicts = front["study"].get("presets") or []
    if not verdicts:
        return '<p class="note">The study ran no published method as a baseline.</p>'
    by_trial = {p["trial"]: ("preset", p) for p in front["baselines"]}
    by_trial |= {p["trial"]: (k, p) for k, p in everything(front) if k != "control"}
    lost = [v["name"] for v in verdicts if not v["beaten"]]
    said = f"Not beaten: {', '.join(lost)}." if lost else "The search beats every one of them."
    rows = "".join(_verdict(front, v, by_trial) for v in verdicts)
    note = f"{said} Beaten means: a point of the front costs fewer prefill FLOPs at no lower quality, on the figures shown here."
    return f'<p class="note">{escape(note)}</p><div class="scroll"><table><thead><tr><th scope="col">Method</th><th>FLOPs</th><th>Quality</th><th>Beaten?</th><th style="text-align:left">By</th></tr></thead><tbody>{rows}</tbody></table></div>'


def controls_table(front: Front) -> str:
    """Each point beside the same layers and counts with random and even choice."""
    arms: dict[int, dict[str, list[float]]] = {}
    for control in front["controls"]:
        value = held_out(control).get(quality_of(front).key)
        if value is not None:
            name = "random" if _is_random(control) else "uniform"
            arms.setdefault(control["of"], {}).setdefault(name, []).append(value)
    rows, better, judged = [], 0, 0
    for point in pruned_points(front):
        if not (mine := arms.get(point["trial"])):
            continue
        value = held_out(point)[quality_of(front).key]
        cells = ""
        for name in ("random", "uniform"):
            other = sum(mine[name]) / len(mine[name]) if name in mine else None
            cells += f"<td>{_shown(front, other)}</td>" + (
                f"<td>{_margin(front, value, other)}</td>" if name == "random" else ""
            )
            if name == "random" and other is not None:
                judged += 1
                better += (value > other) == quality_of(front).more_is_better and value != other
        rows.append(
            f'<tr data-key="front-{point["trial"]}" tabindex="0"><th scope="row"><span class="dot front"></span>{escape(point_name("front", point))}</th><td>{percent(flops_of(point))}</td><td>{_shown(front, value)}</td>{cells}</tr>'
        )
    if not rows:
        return '<p class="note">No point of the front chooses tokens by a score, or no control arm was run.</p>'
    note = f"Same layers, same number of tokens, but chosen by chance (mean of the seeds) or evenly spaced. On {better} of {judged} points the chosen criterion does better than chance."
    head = "<th scope='col'>Schedule</th><th>FLOPs</th><th>Chosen by the search</th><th>Random</th><th>Margin over random</th><th>Evenly spaced</th>"
    return f'<p class="note">{note}</p><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(front: Front, kind: str, point: Point) -> str:
    quality, figures, stages = quality_of(front), held_out(point), point["schedule"]["stages"]
    name, drop, worst = point_name(kind, point), drop_of(front, point), worst_task(front, point)
    latency, low_high = point.get("latency") or {}, drop_interval(point)
    first = min((s["layer"] for s in stages), default="")
    cells = [
        (first, small_drawing(stages, front["model"]["num_layers"], front["study"].get("visual_tokens"))),
        (flops_of(point), percent(flops_of(point))),
        (
            figures.get(quality.key),
            f"{_shown(front, figures.get(quality.key))} <small>{interval(figures.get('accuracy_ci')) if quality.key == 'accuracy' else ''}</small>",
        ),
        (
            drop,
            (points(drop) if quality.key != "kl" else f"{drop or 0:.3g}")
            + (f" <small>{interval(low_high)}</small>" if low_high and stages else ""),
        ),
        (
            worst[1] if worst else None,
            f"{points(worst[1])} <small>{escape(worst[0])}</small>" if worst and stages else "–",
        ),
        (figures.get("kl"), "–" if figures.get("kl") is None else f"{figures['kl']:.3f}"),
        (figures.get("kv_ratio"), percent(figures.get("kv_ratio"))),
        (latency.get("prefill_ms"), milliseconds(latency.get("prefill_ms"))),
        (latency.get("end_to_end_ms"), milliseconds(latency.get("end_to_end_ms"))),
    ]
    tds = "".join(f'<td data-value="{"" if v is None else v}">{shown}</td>' for v, shown in cells)
    search = escape(f"{name} {kind} {' '.join(stage_words(s) for s in stages)}".lower())
    link = "" if kind == "control" else f' data-key="{key_of(kind, point)}" tabindex="0"'
    data = f'data-kind="{kind}" data-drop="{"" if drop is None else drop}" data-flops="{flops_of(point)}" data-search="{search}"'
    return f'<tr {data}{link}><th scope="row" data-value="{escape(name)}"><span class="dot {kind}"></span>{escape(name)}</th>{tds}</tr>'


def _verdict(front: Front, verdict: dict[str, object], by_trial: dict[int, tuple[str, Point]]) -> str:
    name = escape(str(verdict["name"]))
    found = by_trial.get(verdict["trial"]) if isinstance(verdict.get("trial"), int) else None  # type: ignore[call-overload]
    if found is None:
        return f'<tr><th scope="row"><span class="dot preset"></span>{name}</th><td>–</td><td>–</td><td>–</td><td class="words">not measured: the trial failed or was stopped early by racing, so points at least as cheap were already better</td></tr>'
    kind, preset = found
    by = by_trial.get(verdict["by"]) if isinstance(verdict.get("by"), int) else None  # type: ignore[call-overload]
    reason = "on the front itself" if kind == "front" else "no point of the front is cheaper and at least as good"
    if by:
        winner = by[1]
        reason = f"{point_name(*by)}: {percent(flops_of(winner))} of the FLOPs at {_shown(front, held_out(winner).get(quality_of(front).key))}"
    mark = '<span class="yes">yes</span>' if verdict["beaten"] else '<span class="no">no</span>'
    quality = _shown(front, held_out(preset).get(quality_of(front).key))
    return (
        f'<tr data-key="{key_of(kind, preset)}" tabindex="0"><th scope="row"><span class="dot preset"></span>{name}</th><td>{percent(flops_of(preset))}</td>'
        f'<td>{quality}</td><td>{mark}</td><td class="words">{escape(reason)}</td></tr>'
    )


def _is_random(control: Point) -> bool:
    return any((s.get("criterion") or {}).get("name") == "random" for s in control["schedule"]["stages"])


def _shown(front: Front, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if quality_of(front).key == "kl" else percent(value)


def _margin(front: Front, value: float, other: float | None) -> str:
    if other is None:
        return "–"
    return f"{value - other:+.3f}" if quality_of(front).key == "kl" else f"{(value - other) * 100:+.1f}"
