"""What the project's commands wrote with --json, as Markdown for outcome.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tradeoff import percent as plain
from tradeoff import table

from autoprune.report.words import duration, interval, percent, points, stage_short
from autoprune.schedule import Schedule
from autoprune.search.front import FrontFile, Point

Found = Mapping[str, Any]
_ARMS = {
    "swapped": "swapped: image, then text rows",
    "text": "text rows in both stages",
    "visual": "image rows in both stages",
    "last": "last prompt token in both",
    "random": "chance, mean of 3 draws",
    "uniform": "evenly spaced",
}


def flow(run: Path) -> str:
    """`autoprune flow`: shares of the saliency, and what cutting edges costs, by layer."""
    found = _read(run / "flow.json")
    flows, cuts = found["flows"]["share"], found["cuts"]
    directions = ("visual_to_text", "visual_to_visual")
    lines = []
    for k in range(found["layers"]):
        shares = [_curve(flows[name], k) for name in directions]
        lost = [
            _curve(cuts[name][arm]["accuracy_drop"], k, ends=arm == "cut")
            for name in directions
            for arm in ("cut", "random")
        ]
        lines.append([str(k), *shares, *lost])
    header = ["layer", "text reads image", "image reads image"]
    header += ["cut text from image", "random", "cut image from itself", "random"]
    first, second = found["proposal"]["layers"]
    proposed = f"before layers {first} and {second}" if second is not None else "no two layers"
    silent = f"; {found['silent']} rows without a gradient are left out of the shares" if found["silent"] else ""
    head = f"{found['samples']} rows, accuracy {percent(found['accuracy'])}{silent}. The rule proposes {proposed}."
    return f"{head}\n\n{table(header, lines)}"


def ablation(run: Path) -> str:
    """`autoprune ablate`: HiMAP's lead over other choices, by its first layer."""
    found = _read(run / "ablation.json")
    at = list(found["behind_at"])
    lines = [[words, *(_points(found["behind_at"][k][arm]) for k in at)] for arm, words in _ARMS.items()]
    header = ["HiMAP (text, then image rows) against", *(f"K1 = {k}" for k in at)]
    accuracy = found["arms"]["himap"]["mean"]
    head = f"{found['samples']} rows, dense {percent(found['dense']['mean'])}, HiMAP {percent(accuracy)} over the grid."
    return f"{head}\n\n{table(header, lines)}"


def codebook(run: Path) -> str:
    """`autoprune codebook`: what was probed and how much of it is redundant."""
    facts = _read(run / "codebook.json")
    bounds = ", ".join(f"{name} {bound:.3g}" for name, bound in facts["thresholds"].items())
    return (
        f"{facts['probed']:,} tokens of {facts['samples']} rows were probed, {facts['forwards_per_image']} versions of "
        f"each prompt. Redundant by all measures: {percent(facts['redundant'] / facts['probed'])}; thresholds from the "
        f"data: {bounds}. {facts['context_independent_clusters']} of {facts['clusters']} clusters do not depend on "
        f"their context; {facts['prototypes']} prototypes."
    )


def study(run: Path) -> str:
    """`autoprune calibrate`: the front on validation rows, the published methods, and what all of it took."""
    if not (run / "study" / "front.json").exists():
        raise FileNotFoundError(run / "study")
    front = FrontFile.load(run / "study")
    notes, dense = front.study, front.dense
    shown = sorted(front.points, key=lambda point: -point.flops_ratio)
    lines = [_point(point) for point in (*shown, *front.baselines)]
    verdicts: dict[str, list[str]] = {}
    for one in notes.presets:
        verdicts.setdefault(one.verdict or "not measured", []).append(f"`{one.name}`")
    said = "; ".join(f"{word}: {', '.join(names)}" for word, names in verdicts.items())
    forwards = sum(cost.row_forwards for cost in notes.costs.values())
    head = (
        f"Dense: {_accuracy(dense)} % on {notes.data['validation'].samples} validation rows. "
        f"{duration(notes.seconds or 0)}, {duration(notes.seconds_search or 0)} of it searching; "
        f"{notes.costs['search'].row_forwards:,} row-forwards in the search, {forwards:,} in all; largest worker "
        f"{(notes.peak_bytes or 0) / 2**30:.1f} GiB; near ties in {percent(notes.near_ties or 0)} of the dense answers."
    )
    header = ["schedule", "stages", "FLOPs %", "accuracy % [95 %]", "loses [95 %]"]
    return f"{head}\n\n{table(header, lines)}\n\nPublished methods: {said}."


def verified(run: Path) -> str:
    """`autoprune verify`: the exported schedule on test rows, by generate()."""
    found = _read(run / "verify.json")
    schedule = Schedule.load(run / "schedule.json")
    agree = "agree" if found["holds"] else "do not agree"
    return (
        f"{'; '.join(map(stage_short, schedule.stages))}: {percent(found['flops_ratio'])} of the FLOPs, "
        f"{percent(found['accuracy_dense'])} dense and {percent(found['accuracy'])} pruned on {found['samples']} rows, "
        f"loses {points(found['drop'])} {interval(found['drop_ci'])} points where {points(found['claimed_drop'])} were "
        f"claimed: the two {agree}. Prefill of a batch of {found['batch']}: {found['prefill_dense_ms']:.0f} ms dense, "
        f"{found['prefill_ms']:.0f} ms pruned."
    )


def transferred(run: Path) -> str:
    """`autoprune transfer`, both ways: at the same relative depth, and after a local search where there was one."""
    lines = []
    for name, words in (
        ("to-here", "digit_scenes' schedule, here"),
        ("to-digits", "the one found here, on digit_scenes"),
    ):
        found = _read(run / f"{name}.json")
        for end in ("mapped", "found") if found["tried"] else ("mapped",):
            stages = "; ".join(_stages(found[end]))
            shares = [plain(found[end][name]) for name in ("flops_ratio", "accuracy")]
            figures = [*shares, points(found[end]["drop"])]
            lines.append(
                [words if end == "mapped" else "after a local search", stages, *figures, str(found["samples"])]
            )
    return table(["schedule", "stages", "FLOPs %", "accuracy %", "loses", "rows"], lines)


def _stages(found: Found) -> list[str]:
    kept = zip(found["layers"], found["keep"], found["criteria"], strict=True)
    return [
        f"{layer}: {100 * next(iter(keep.values())):.4g} % {criterion or ''}".strip() for layer, keep, criterion in kept
    ]


def _point(point: Point) -> list[str]:
    shown = point.validation or point
    drop = f"{points(shown.drop)} {interval(shown.drop_ci)}" if shown.drop is not None else "–"
    name = point.name if point.validation else f"{point.name} (calibration rows)"
    return [
        name,
        "; ".join(map(stage_short, point.schedule.stages)),
        percent(shown.flops_ratio),
        _accuracy(point),
        drop,
    ]


def _accuracy(point: Point) -> str:
    shown = point.validation or point
    return f"{plain(shown.accuracy)} {interval(shown.accuracy_ci)}"


def _curve(curve: Found, k: int, *, ends: bool = True) -> str:
    if curve["mean"][k] is None:
        return "–"
    return points(curve["mean"][k]) + (f" {interval((curve['low'][k], curve['high'][k]))}" if ends else "")


def _points(found: Found) -> str:
    return f"{points(found['mean'])} {interval((found['low'], found['high']))}"


def _read(path: Path) -> Any:
    return json.loads(path.read_text())
