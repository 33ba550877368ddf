"""Sentences that a README makes of a front: nothing in them is typed by hand."""

from __future__ import annotations

from autoprune.report.export import select_point
from autoprune.report.methods import verdict_of
from autoprune.report.reading import drop_interval, drop_of, flops_of, height_of, held_out, quality_of
from autoprune.report.words import ends, listed, percent
from autoprune.search.front import FrontFile
from autoprune.search.notes import PresetVerdict


def cost_sentence(front: FrontFile, max_drop: float) -> str:
    """The cheapest schedule within a loss on held-out rows: its cost, its loss with the interval, its speed.

    Args:
        front: The front.
        max_drop: Most loss of quality, absolute.

    Raises:
        NoPointError: no point stays within it.
    """
    point, row = select_point(front, max_drop=max_drop), quality_of(front)
    sure = f" {ends(row.unit, drop_interval(front, point))}".rstrip()
    said = (
        f"The cheapest schedule that loses at most {row.unit.loss(max_drop)} on {held_out(point).samples} validation "
        f"rows needs {percent(flops_of(point))} of the prefill FLOPs and loses "
        f"{row.unit.change(drop_of(front, point))}{sure} there"
    )
    times = point.latency
    if times and times.prefill_dense_ms:
        said += f"; its prefill is {times.prefill_dense_ms / times.prefill_ms:.1f} times as fast"
    return f"{said}."


def preset_sentence(front: FrontFile) -> str:
    """The front against the published methods: which it beats, matches, and does not beat, with the intervals."""
    measured = {b.trial for b in (*front.baselines, *front.points)}
    judged = [v for v in front.study.presets if v.verdict and v.trial in measured]
    held = sorted({v.samples for v in judged if v.split == "validation" and v.samples})
    rows = f"{held[-1]} validation rows" if held else "the rows of the search"
    of = {name: [v for v in judged if verdict_of(v) == name] for name in ("beaten", "matched", "not beaten")}
    parts = [
        ("beats", [f"`{v.name}`" for v in of["beaten"]]),
        ("cannot be told apart from", [_with_interval(front, v) for v in of["matched"]]),
        ("does not beat", [_with_interval(front, v) for v in of["not beaten"]]),
    ]
    said = "; it ".join(f"{verb} {listed(names)}" for verb, names in parts if names)
    if not said:
        return "No published method was measured."
    test = f"paired by row, clustered by group, 95 %, corrected for {len(judged)} methods"
    return f"On {rows} the front {said} (beats: a point that costs no more is better; {test})."


def _with_interval(front: FrontFile, verdict: PresetVerdict) -> str:
    unit = quality_of(front).unit
    preset = next(p for p in (*front.baselines, *front.points) if p.trial == verdict.trial)
    at = f"{percent(flops_of(preset))} of the FLOPs, {unit.value(height_of(front, preset))}"
    if verdict.difference is None:
        return f"`{verdict.name}` ({at}; nothing costs as little)"
    return f"`{verdict.name}` ({at}; difference {unit.change(verdict.difference)} {ends(unit, verdict.difference_ci)})"
