"""Schedules for the contract suite: the published ones one by one, and four that strain many things at once."""

from __future__ import annotations

from typing import Any

from autoprune import Schedule, presets


def attention(rows: str, **options: str) -> dict[str, str]:
    return {"name": "attention", "rows": rows, **options}


def schedule(*stages: tuple[int, dict[str, Any], dict[str, Any] | None], **options: Any) -> Schedule:
    """A schedule from (layer, keep, criterion) of each stage."""
    return Schedule(
        stages=[{"layer": k, "keep": keep, "criterion": criterion} for k, keep, criterion in stages], **options
    )


WITHDRAW = {"ratio": 0.0}
COVER = {
    "withdraw@0": presets.vtw(0),
    "previous": schedule(
        (1, {"ratio": 0.8}, attention("text")),
        (2, {"ratio": 0.6}, attention("visual", normalize="causal")),
        (4, {"count": 4}, attention("all", heads="max", reduce="mean")),
        (5, WITHDRAW, None),
    ),
    "current": schedule(
        (0, {"ratio": 0.8}, attention("last", at="current", heads="sum")),
        (2, {"ratio": 0.6}, attention("visual", at="current", heads="max")),
        (3, {"count": 5}, attention("text", at="current", reduce="mean")),
        (5, {"ratio": 0.1}, attention("all", at="current", normalize="causal")),
    ),
    "mass and threshold": schedule(
        (1, {"mass": 0.9}, attention("text", heads="sum")),
        (2, {"mass": 0.8}, attention("last")),
        (4, {"threshold": 0.02}, attention("last", heads="max")),
    ),
    "no scores": schedule(
        (0, {"ratio": 0.8}, {"name": "uniform"}),
        (1, {"ratio": 0.6}, {"name": "diversity"}),
        (3, {"count": 3}, {"name": "random", "seed": 3}),
    ),
}
"""Every criterion, kind of keep and depth; for families beyond the core these are all."""

SCHEDULES = {
    **COVER,
    "withdraw@1": presets.vtw(1),
    "withdraw@5": presets.vtw(5),
    "fastv@2": presets.fastv(2, 0.5),
    "himap": presets.himap((2, 4), (0.5, 0.125)),
    "pyramiddrop": presets.pyramiddrop((1, 3, 5), (0.5, 0.25, 0.125)),
    "threshold": schedule((3, {"threshold": 0.02}, attention("last"))),
    "last, then text": schedule(
        (0, {"ratio": 0.6}, attention("last", at="current")), (3, {"ratio": 0.2}, attention("text"))
    ),
    "random": presets.random(1, 0.4, 3),
    "uniform": presets.uniform(0, 0.3),
    "diversity": schedule((0, {"ratio": 0.5}, {"name": "diversity"}), (3, {"count": 4}, {"name": "diversity"})),
}
FOR_MODES = {
    "by scores": schedule(
        (1, {"ratio": 0.75}, attention("text")), (3, {"ratio": 0.4}, attention("last")), (5, WITHDRAW, None)
    ),
    "at layer 0": schedule((0, {"ratio": 0.5}, {"name": "uniform"}), (3, {"ratio": 0.2}, attention("visual"))),
}
"""For modes of generation: with and without the first layers whole, on which lengths and positions depend."""

EVERYTHING = schedule(
    (1, {"count": 10_000}, attention("text")),
    (2, {"ratio": 1.0}, attention("visual", at="current")),
    (3, {"count": 10_000}, {"name": "diversity"}),
    (4, {"ratio": 1.0}, None),
)
"""Keeps all, with every hook and score at work."""
