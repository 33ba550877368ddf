"""The front against the published methods, and its choices against chance."""

from __future__ import annotations

from typing import Any

from autoprune.report.cards import key_of
from autoprune.report.markup import cell, note, row, table
from autoprune.report.reading import Front, Point, everything, flops_of, held_out, pruned_points, quality_of
from autoprune.report.words import percent, point_name, quality_value

_BEATEN = "Beaten means: a point that the search found costs fewer prefill FLOPs at no lower quality, on held-out rows."
_UNBEATEN = "no point that the search found is cheaper and at least as good"
_NOT_MEASURED = "not measured on all rows: the trial failed, or racing stopped it because cheaper points were better"


def presets_table(front: Front) -> str:
    """Which published methods the front beats, and which it does not."""
    verdicts = front["study"].get("presets") or []
    if not verdicts:
        return note("The study ran no published method as a baseline.")
    known = {p["trial"]: ("preset", p) for p in front["baselines"]}
    known |= {p["trial"]: (kind, p) for kind, p in everything(front) if kind != "control"}
    lost = [v["name"] for v in verdicts if not v["beaten"]]
    said = f"Not beaten: {', '.join(lost)}." if lost else "The search beats every one of them."
    heads = ["Method", "FLOPs", quality_of(front).label.capitalize(), "Beaten?", "By"]
    return note(f"{said} {_BEATEN}") + table(heads, (_verdict(front, v, known) for v in verdicts))


def controls_table(front: Front) -> str:
    """Each point beside the same layers and counts with random and even choice."""
    arms: dict[int, dict[str, list[float]]] = {}
    quality = quality_of(front)
    for control in front["controls"]:
        if (value := held_out(control).get(quality.key)) is not None:
            arms.setdefault(control["of"], {}).setdefault(_arm(control), []).append(value)
    rows, margins = [], []
    for point in pruned_points(front):
        value = held_out(point).get(quality.key)
        if value is None or point["trial"] not in arms:
            continue
        means = {arm: sum(values) / len(values) for arm, values in arms[point["trial"]].items()}
        margin = None if "random" not in means else (value - means["random"]) * (1 if quality.more_is_better else -1)
        margins += [] if margin is None else [margin]
        figures = [value, means.get("random"), means.get("uniform")]
        cells = [percent(flops_of(point)), *(quality_value(quality.key, v) for v in figures), _signed(front, margin)]
        rows.append(row("front", point_name("front", point), map(cell, cells), key_of("front", point)))
    if not rows:
        return note("No point of the front chooses tokens by a score, or no control arm was run.")
    better = sum(m > 0 for m in margins)
    text = (
        "Same layers, same number of tokens, but chosen by chance (mean of the seeds) or evenly spaced. "
        f"On {better} of {len(margins)} points the criterion that the search chose does better than chance."
    )
    return note(text) + table(["Schedule", "FLOPs", "Criterion", "Random", "Even", "Better than random by"], rows)


def _verdict(front: Front, verdict: dict[str, Any], known: dict[int, tuple[str, Point]]) -> str:
    found, by = known.get(verdict["trial"]), known.get(verdict["by"])
    if found is None:
        return row("preset", verdict["name"], [cell("–")] * 3 + [cell(_NOT_MEASURED, 'class="words"')])
    kind, preset = found
    reason = "it is on the front" if kind == "front" else _UNBEATEN
    if by:
        reason = f"{point_name(*by)}: {percent(flops_of(by[1]))} of the FLOPs at {_quality(front, by[1])}"
    mark = '<span class="yes">yes</span>' if verdict["beaten"] else '<span class="no">no</span>'
    cells = [cell(percent(flops_of(preset))), cell(_quality(front, preset)), cell(mark), cell(reason, 'class="words"')]
    return row("preset", verdict["name"], cells, key_of(kind, preset))


def _arm(control: Point) -> str:
    chosen = [(s.get("criterion") or {}).get("name") for s in control["schedule"]["stages"]]
    return "random" if "random" in chosen else "uniform"


def _quality(front: Front, point: Point) -> str:
    return quality_value(quality_of(front).key, held_out(point).get(quality_of(front).key))


def _signed(front: Front, margin: float | None) -> str:
    if margin is None:
        return "–"
    return f"{margin:+.3f} nats" if quality_of(front).key == "kl" else f"{margin * 100:+.1f} points"
