"""The first screen: what the study bought, in one sentence and a few tiles."""

from __future__ import annotations

from html import escape

from autoprune.report.export import DEFAULT_MAX_DROP, NoPointError, select_point
from autoprune.report.reading import (
    Front,
    Point,
    drop_interval,
    drop_of,
    flops_of,
    held_out,
    pruned_points,
    quality_of,
    worst_task,
)
from autoprune.report.words import interval, milliseconds, percent, point_name, points


def recommended(front: Front) -> Point | None:
    """The point that `autoprune export` takes by default; without one, the nearest; None on an empty front."""
    try:
        return select_point(front)
    except NoPointError:
        known = [(drop, p) for p in pruned_points(front) if (drop := drop_of(front, p)) is not None]
        return min(known, key=lambda item: item[0])[1] if known else None


def headline(front: Front) -> str:
    """The study in one sentence, as HTML."""
    point = recommended(front)
    if point is None:
        return "No pruned schedule was measured to the end"
    quality, drop = quality_of(front), drop_of(front, point) or 0.0
    flops = f"<b>{percent(flops_of(point), 0)}</b> of the prefill FLOPs"
    if drop > DEFAULT_MAX_DROP + 1e-9:
        lost = f"{points(drop)} points of {quality.label}" if quality.key != "kl" else f"{drop:.3g} nats"
        return f"No schedule stays within {_bound(front)} of dense: the nearest loses <b>{lost}</b> at {flops}"
    mine, dense = held_out(point)[quality.key], held_out(front["dense"])[quality.key]
    if not dense and quality.more_is_better:
        return "The dense model itself gets nothing right: on these rows there is nothing to lose"
    if not quality.more_is_better:
        return f"Stays within <b>{drop:.3g} nats</b> of the dense answers at {flops}"
    return f"Keeps <b>{percent(mine / dense)}</b> of the dense model’s {quality.label} at {flops}"


def lead(front: Front) -> str:
    """What stands behind the headline: the point, its interval, the rows it was measured on."""
    point = recommended(front)
    if point is None:
        return "Run the study with more trials, or look at the failed trials below."
    quality, figures, dense = quality_of(front), held_out(point), held_out(front["dense"])
    where = "held-out rows" if point.get("validation") else "calibration rows (the study stopped before its validation)"
    if quality.key == "kl":
        return f"{_named(point)}, measured on {figures['samples']} {where}."
    low_high = drop_interval(point)
    sure = f", 95 % interval {points(low_high[0])} to {points(low_high[1])}" if low_high else ""
    drop = drop_of(front, point)
    loses = f"loses {points(drop)} points" if (drop or 0) >= 0 else f"gains {points(-(drop or 0))} points"
    export = (
        f"It is the default of <code>autoprune export</code>: the cheapest schedule within {_bound(front)} of dense."
        if (drop or 0) <= DEFAULT_MAX_DROP + 1e-9
        else "<code>autoprune export --max-drop</code> takes a larger loss; more trials may find better schedules."
    )
    accuracy = f"{percent(figures[quality.key])} against {percent(dense[quality.key])}{sure}"
    return f"{_named(point)} {loses} ({accuracy}) on {figures['samples']} {where}. {export}"


def tiles(front: Front) -> str:
    """List items with the recommended point's figures beside the dense ones."""
    point = recommended(front)
    if point is None:
        return ""
    quality, figures, dense = quality_of(front), held_out(point), held_out(front["dense"])
    items = []
    if quality.key != "kl":
        items.append(
            (
                quality.label.split(" ")[0].capitalize(),
                percent(figures[quality.key]),
                f"dense {percent(dense[quality.key])} · 95 % {interval(figures.get('accuracy_ci'))}",
            )
        )
    else:
        items.append(("KL", f"{figures['kl']:.3g}", "nats from the dense answers"))
    items.append(
        (
            "Prefill FLOPs",
            percent(flops_of(point)),
            f"of dense · {percent(figures.get('flops_ratio_end_to_end'))} end to end",
        )
    )
    if latency := point.get("latency"):
        faster = latency["prefill_dense_ms"] / latency["prefill_ms"]
        items.append(
            (
                "Prefill time",
                milliseconds(latency["prefill_ms"]),
                f"dense {milliseconds(latency['prefill_dense_ms'])} · {faster:.2f}× as fast",
            )
        )
    items.append(("KV cache", percent(figures.get("kv_ratio")), "of the dense bytes"))
    if worst := worst_task(front, point):
        items.append(
            ("Worst task", f"−{points(worst[1])}" if worst[1] > 0 else f"+{points(-worst[1])}", f"points on {worst[0]}")
        )
    return "".join(
        f'<li><span class="what">{escape(w)}</span><b>{escape(b)}</b><span>{escape(s)}</span></li>' for w, b, s in items
    )


def _named(point: Point) -> str:
    name = point_name("front", point)
    return (
        f"Trial {point['trial']}" if name.startswith("trial") else f"The preset {escape(name)}, trial {point['trial']},"
    )


def _bound(front: Front) -> str:
    return "1 point" if quality_of(front).key != "kl" else f"{DEFAULT_MAX_DROP:g} nats"
