"""The card of one schedule: its drawing, its stages in words, its figures, and how to take it."""

from __future__ import annotations

from html import escape
from typing import Any

from autoprune.report.drawings import large_drawing
from autoprune.report.markup import snippet
from autoprune.report.reading import Front, Point, drop_interval, drop_of, flops_of, held_out, quality_of, worst_task
from autoprune.report.words import criterion_family, interval, milliseconds, percent, point_name, points, stage_words

_KINDS = {"front": "on the front", "preset": "published method, as a preset", "dense": "the unpruned model"}


def key_of(kind: str, point: Point) -> str:
    """What ties a card, a table row and a place in the chart together."""
    return f"{kind}-{point['trial']}"


def card(front: Front, kind: str, point: Point, run: str) -> str:
    """The card as HTML.

    Args:
        front: The content of a front.json.
        kind: ``front``, ``preset`` or ``dense``.
        point: The point.
        run: The output folder as the commands on the page name it.
    """
    stages = point["schedule"]["stages"]
    steps = "".join(_step(s) for s in stages) or "<li>no stage: every layer sees every visual token</li>"
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in _facts(front, point))
    return "".join(
        (
            f'<article class="card" id="card-{key_of(kind, point)}"><h3>{escape(point_name(kind, point))}</h3>',
            f'<p class="kind">{_KINDS[kind]} · visual tokens each decoder layer sees</p>',
            large_drawing(stages, front["model"]["num_layers"], front["study"].get("visual_tokens")),
            f"<ul>{steps}</ul><dl>{facts}</dl>{_take(kind, point, run)}</article>",
        )
    )


def _step(stage: dict[str, Any]) -> str:
    family = criterion_family(stage.get("criterion"))
    swatch = (
        f'<svg width="11" height="11" aria-hidden="true"><rect class="c-{family}" width="11" height="11" rx="2"/></svg>'
    )
    return f"<li>{swatch}{escape(stage_words(stage))}</li>"


def _take(kind: str, point: Point, run: str) -> str:
    if kind == "dense":
        return ""
    save = f'<button class="action" type="button" data-schedule="{key_of(kind, point)}">Save schedule.json</button>'
    return snippet(f"autoprune export {run} --trial {point['trial']} -o schedule.json") + save


def _facts(front: Front, point: Point) -> list[tuple[str, str]]:
    quality, figures = quality_of(front), held_out(point)
    out = []
    if figures.get("accuracy") is not None:
        out.append(("Accuracy", f"{percent(figures['accuracy'])} {interval(figures.get('accuracy_ci'))}"))
    drop, low_high = drop_of(front, point), drop_interval(point)
    if quality.key != "kl" and drop is not None and point["schedule"]["stages"]:
        out.append(("Drop", f"{points(drop)} points" + (f" {interval(low_high)}" if low_high else "")))
    if (worst := worst_task(front, point)) and worst[1] > 0:
        out.append(("Worst task", f"{worst[0]}: −{points(worst[1])} points"))
    out.append(("Prefill FLOPs", f"{percent(flops_of(point))} of dense"))
    out.append(("KV cache", f"{percent(figures.get('kv_ratio'))} of dense"))
    if figures.get("kl") is not None:
        out.append(("KL", f"{figures['kl']:.3g} nats, p90 {figures.get('kl_p90') or 0:.3g}"))
    if figures.get("agreement") is not None:
        out.append(("Same answer as dense", percent(figures["agreement"])))
    if latency := point.get("latency"):
        for name, key in (("Prefill", "prefill"), ("End to end", "end_to_end")):
            if latency.get(f"{key}_ms") is not None:
                dense = milliseconds(latency[f"{key}_dense_ms"])
                out.append((name, f"{milliseconds(latency[f'{key}_ms'])} (dense {dense})"))
    return out
