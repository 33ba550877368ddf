"""A front.json as a study leaves it, made up in milliseconds: no model, no search, the shapes of the contract."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from autoprune.schedule import Schedule
from autoprune.search.front import FrontFile
from autoprune.search.verdicts import pack

LAYERS, VISUAL, TEXT, ROWS = 10, 144, 16, 512
TASKS = ("digit_of", "color_of", "where", "digit_at", "count", "exist", "larger", "sum", "next", "read")
# How much a task suffers from tokens that are missing deep in the model; one collapses behind a good average.
NEED = dict(zip(TASKS, (0.03, 0.05, 0.9, 0.04, 0.08, 0.1, 0.03, 0.05, 0.3, 0.2), strict=True))
MODEL = {
    "name": "digit-scenes",
    "model_type": "llava",
    "num_layers": LAYERS,
    "hidden_size": 128,
    "config_sha256": "ab" * 32,
}
_REASONS = {"FAIL": "non-finite logits"}
Stages = list[dict[str, Any]]


def make_front(trials: int = 60, seed: int = 0, tasks: tuple[str, ...] = TASKS) -> dict[str, Any]:
    """The content of a front.json with `trials` explored schedules."""
    rng = random.Random(seed)
    explored = [
        _trial(number, stages, name, rng, tasks) for number, (name, stages) in enumerate(_candidates(rng, trials))
    ]
    complete = [t for t in explored if t["state"] == "COMPLETE"]
    dense = _trial(-1, [], "dense", random.Random(seed), tasks) | {"trial": None}
    presets = [t for t in complete if t["name"] in ("vtw", "fastv", "himap", "pyramiddrop")]
    points = sorted(
        (t for t in complete if not any(_dominates(o, t) for o in complete)), key=lambda t: t["flops_ratio"]
    )
    controls = [
        _control(p, name, rng, tasks)
        for p in points
        if _selects(p)
        for name in ("random-0", "random-1", "random-2", "uniform")
    ]
    for entry in (dense, *presets, *points, *controls):
        _with_drop(entry, dense, tasks)
    for point in points:
        point["latency"] = _latency(point)
        point["marks"] = _marks(point, [p for p in presets if p["trial"] != point["trial"]])
        point["schedule"]["evidence"] = {
            "study": "digit-scenes",
            "trial": point["trial"],
            "flops_ratio": point["flops_ratio"],
            **{k: point["validation"][k] for k in ("accuracy", "drop", "drop_ci", "drop_se", "samples")},
        }
    for control in controls:
        own = next(p for p in points if p["trial"] == control["of"])
        control |= {"measured_on": "validation", "mark": _mark(own, control, control["name"].split(" ")[0])}
    return {
        "format": "autoprune.front",
        "version": 1,
        "study": _study(explored, presets, points) | {"verdicts": _row_verdicts(dense, [*points, *presets], tasks)},
        "model": MODEL,
        "dense": _public(dense),
        "points": [_public(p) for p in points],
        "baselines": [_public(p) for p in presets],
        "controls": [_public(c) for c in controls],
    }


def typed(front: dict[str, Any] | None = None) -> FrontFile:
    """`front` (default: `make_front()`) as the report reads it."""
    return FrontFile.model_validate(front or make_front())


def save_front(folder: Path, front: dict[str, Any] | None = None) -> Path:
    """An output folder that holds `front` (default: `make_front()`) as front.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "front.json").write_text(json.dumps(front or make_front()), encoding="utf-8")
    return folder


def _candidates(rng: random.Random, count: int) -> list[tuple[str, Stages]]:
    text, visual, last = ({"name": "attention", "rows": rows} for rows in ("text", "visual", "last"))
    known: list[tuple[str, Stages]] = [
        ("vtw", [{"layer": 5, "keep": {"ratio": 0.0}}]),
        ("fastv", [{"layer": 1, "keep": {"ratio": 0.5}, "criterion": last}]),
        (
            "himap",
            [
                {"layer": 1, "keep": {"ratio": 0.5}, "criterion": text},
                {"layer": 3, "keep": {"ratio": 0.125}, "criterion": visual},
            ],
        ),
        (
            "pyramiddrop",
            [{"layer": k, "keep": {"ratio": r}, "criterion": last} for k, r in ((3, 0.5), (5, 0.25), (8, 0.125))],
        ),
    ]
    while len(known) < count:
        keep, stages = 1.0, []
        for layer in sorted(rng.sample(range(1, LAYERS), rng.randint(1, 3))):
            keep *= rng.choice((0.05, 0.1, 0.2, 0.3, 0.5, 0.7))
            stages.append(
                {"layer": layer, "keep": {"ratio": round(keep, 4)}, "criterion": rng.choice((text, visual, last))}
            )
        if rng.random() < 0.3:
            stages[-1] = {"layer": stages[-1]["layer"], "keep": {"ratio": 0.0}}
        known.append(("", stages))
    return known


def _alive(stages: Stages) -> list[float]:
    share, out, due = 1.0, [], {s["layer"]: s["keep"]["ratio"] for s in stages}
    for layer in range(LAYERS):
        share = min(share, due.get(layer, 1.0))
        out.append(share)
    return out


def _flops(shares: list[float]) -> float:
    cost = [(TEXT + VISUAL * s) * 1300 + (TEXT + VISUAL * s) ** 2 for s in shares]
    return sum(cost) / (LAYERS * ((TEXT + VISUAL) * 1300 + (TEXT + VISUAL) ** 2))


def _measure(stages: Stages, skill: float, rng: random.Random, tasks: tuple[str, ...], rows: int) -> dict[str, Any]:
    shares = _alive(stages)
    lost = 1 - sum(math.sqrt(s) for s in shares) / LAYERS
    per_task = {}
    for task in tasks:
        share = max(0.02, 0.985 - NEED.get(task, 0.1) * lost * (1.5 - skill) - 1.2 * max(0.0, lost - 0.7))
        right = sum(rng.random() < share for _ in range(rows // len(tasks)))
        samples = rows // len(tasks)
        per_task[task] = {
            "accuracy": right / samples,
            "accuracy_ci": _wilson(right, samples),
            "agreement": min(1.0, right / samples + 0.01),
            "kl": lost * 0.4,
            "samples": samples,
        }
    n = sum(t["samples"] for t in per_task.values())
    right = round(sum(t["accuracy"] * t["samples"] for t in per_task.values()))
    ratio = _flops(shares)
    return {
        "flops_ratio": ratio,
        "flops_ratio_end_to_end": 0.2 + 0.8 * ratio,
        "kv_ratio": sum(TEXT + VISUAL * s for s in shares) / (LAYERS * (TEXT + VISUAL)),
        "accuracy": right / n,
        "accuracy_ci": _wilson(right, n),
        "agreement": min(1.0, right / n + 0.01),
        "kl": lost * 0.4,
        "kl_p90": lost * 1.1,
        "samples": n,
        "tasks": per_task,
    }


def _trial(number: int, stages: Stages, name: str, rng: random.Random, tasks: tuple[str, ...]) -> dict[str, Any]:
    state = "COMPLETE" if name else rng.choices(("COMPLETE", "PRUNED", "FAIL"), (70, 28, 2))[0]
    # One published method is made too good to be beaten, so that the page has that to say as well.
    text = any(s.get("criterion", {}).get("rows") == "text" for s in stages)
    skill = {"himap": 1.45, "vtw": 0.2, "fastv": -0.2}.get(name, 1.2 if text else 0.9)
    schedule = {"format": "autoprune.schedule", "version": 1, "model": MODEL, "stages": stages, "evidence": {}}
    entry = {
        "trial": number,
        "name": name or f"trial {number}",
        "state": state,
        "schedule": schedule,
        "skill": skill,
        "latency": None,
    }
    entry |= _measure(stages, skill, rng, tasks, 256) | {"validation": _measure(stages, skill, rng, tasks, ROWS)}
    return entry


def _control(point: dict[str, Any], name: str, rng: random.Random, tasks: tuple[str, ...]) -> dict[str, Any]:
    criterion = {"name": "uniform"} if name == "uniform" else {"name": "random", "seed": int(name[-1])}
    stages = [{**s, "criterion": criterion} if s["keep"]["ratio"] else s for s in point["schedule"]["stages"]]
    return (
        _trial(point["trial"], stages, name, rng, tasks)
        | _measure(stages, 0.2, rng, tasks, 256)
        | {
            "of": point["trial"],
            "trial": None,
            "name": f"{name} of trial {point['trial']}",
            "validation": _measure(stages, 0.2, rng, tasks, ROWS),
        }
    )


def _with_drop(entry: dict[str, Any], dense: dict[str, Any], tasks: tuple[str, ...]) -> None:
    pairs = [(entry["validation"], dense["validation"]), (entry, dense)]
    pairs += [(entry["validation"]["tasks"][t], dense["validation"]["tasks"][t]) for t in tasks]
    for part, whole in pairs:
        drop, se = whole["accuracy"] - part["accuracy"], math.sqrt(0.06 / part["samples"])
        part |= {"drop": drop, "drop_ci": [drop - 1.96 * se, drop + 1.96 * se], "drop_se": se}


def _latency(point: dict[str, Any]) -> dict[str, Any]:
    ratio = point["flops_ratio"]
    return {
        "prefill_ms": 31.0 * (0.12 + 0.88 * ratio),
        "prefill_dense_ms": 31.0,
        "end_to_end_ms": 52.0 * (0.4 + 0.6 * ratio),
        "end_to_end_dense_ms": 52.0,
        "batch": 16,
        "new_tokens": 4,
    }


def _study(
    explored: list[dict[str, Any]], presets: list[dict[str, Any]], points: list[dict[str, Any]]
) -> dict[str, Any]:
    states = [t["state"] for t in explored]
    keys = ("trial", "name", "state", "schedule", "flops_ratio", "accuracy", "kl", "samples")
    return {
        "name": "digit-scenes",
        "complete": True,
        "objectives": ["flops", "accuracy"],
        "trials": [{k: t[k] for k in keys} | {"reason": _REASONS.get(t["state"])} for t in explored],
        "counts": {s: states.count(s) for s in ("COMPLETE", "PRUNED", "FAIL")},
        "importances": {
            "accuracy": {"keep_1": 0.41, "layer_1": 0.27, "criterion_1": 0.17, "stages": 0.1, "keep_2": 0.05},
            "flops": {"layer_1": 0.5, "keep_1": 0.38, "stages": 0.08, "criterion_1": 0.0, "keep_2": 0.04},
        },
        "hardware": {"cpu": "a made-up CPU", "cores": 2, "gpu": None, "workers": 2, "threads": 1},
        "seconds": 341.5,
        "seconds_search": 250.0,
        "worker_restarts": 1,
        "near_ties": 0.0004,
        "started": "2026-01-01T10:00:00+00:00",
        "versions": {"autoprune": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "convention": "decoder layers over the whole prompt plus scoring; head, tower and projector excluded",
        "seeds": {"sampler": 0, "data": 0},
        "presets": _verdicts(presets, points),
        "data": {
            "calibration": {"path": "calibration.jsonl", "samples": 256, "digest": "c0ffee"},
            "validation": {"path": "validation.jsonl", "samples": ROWS, "digest": "decade"},
        },
        "visual_tokens": VISUAL,
        "text_tokens": TEXT,
        "within": 0.15,
        "left_out": [
            {"what": "preset fitprune", "why": "needs a file: autoprune fitprune MODEL --data D makes it"},
            {"what": "encoder", "why": "this vision tower has no attention that could be read"},
        ],
        "stopped": {"raced": states.count("PRUNED"), "failed": states.count("FAIL")},
        "costs": {
            phase: {"row_forwards": rows, "dense_equivalents": rows * share}
            for phase, rows, share in (
                ("dense", 768, 1.0),
                ("search", 9600, 0.41),
                ("validation", 6144, 0.38),
                ("controls", 2300, 0.35),
            )
        },
        "hit_rate": 0.62,
    }


def _verdicts(presets: list[dict[str, Any]], points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    own, found = {p["trial"] for p in presets}, []
    for preset in presets:
        theirs = preset["validation"]
        able = [p for p in points if p["trial"] not in own and p["validation"]["flops_ratio"] <= theirs["flops_ratio"]]
        by = max(able, key=lambda p: p["accuracy"], default=None)
        lead = by["validation"]["accuracy"] - theirs["accuracy"] if by else 0.0
        p, half = _two_sided(lead, theirs["samples"])
        adjusted = min(1.0, p * len(presets))
        told = "matched" if adjusted > 0.05 else "beaten" if lead > 0 else "not beaten"
        found.append({
            "name": preset["name"], "trial": preset["trial"], "by": by["trial"] if by else None,
            "verdict": told if by else "not beaten", "beaten": bool(by) and told == "beaten",
            "difference": lead if by else None, "difference_ci": [lead - half, lead + half] if by else None,
            "p": p if by else None, "adjusted_p": adjusted if by else None,
            "samples": theirs["samples"] if by else None, "split": "validation" if by else None,
        })  # fmt: skip
    return found


def _marks(point: dict[str, Any], presets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        _mark(point, p, p["name"])
        for p in presets
        if p["validation"]["flops_ratio"] >= point["validation"]["flops_ratio"]
    ]


def _mark(point: dict[str, Any], other: dict[str, Any], name: str) -> dict[str, Any]:
    samples = point["validation"]["samples"]
    lead = point["validation"]["accuracy"] - other["validation"]["accuracy"]
    p = _two_sided(lead, samples)[0] / 2 if lead > 0 else 1.0
    adjusted = min(1.0, 8 * p)
    return {"against": name, "p": p, "adjusted_p": adjusted, "decided": adjusted <= 0.05, "samples": samples}


def _two_sided(lead: float, samples: int) -> tuple[float, float]:
    """A p-value, and half of the 95 % interval."""
    error = math.sqrt(0.06 / samples)
    return math.erfc(abs(lead) / error / math.sqrt(2)), 1.96 * error


def _row_verdicts(dense: dict[str, Any], shown: list[dict[str, Any]], tasks: tuple[str, ...]) -> dict[str, Any]:
    """Verdicts of single validation rows, two of an image, whose averages are the figures shown."""

    def packed(entry: dict[str, Any]) -> str:
        parts = [entry["validation"]["tasks"][task] for task in tasks]
        rights = [(round(part["accuracy"] * part["samples"]), part["samples"]) for part in parts]
        return pack([row < right for right, samples in rights for row in range(samples)])

    names = [task for task in tasks for _ in range(dense["validation"]["tasks"][task]["samples"])]
    points = {Schedule.model_validate(entry["schedule"]).key: packed(entry) for entry in shown}
    groups = [row // 2 for row in range(len(names))]
    return {"validation": {"groups": groups, "tasks": names, "dense": packed(dense), "points": points}}


def _public(entry: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in entry.items() if k not in ("skill", "state")}


def _selects(point: dict[str, Any]) -> bool:
    return any(s["keep"]["ratio"] > 0 for s in point["schedule"]["stages"])


def _dominates(a: dict[str, Any], b: dict[str, Any]) -> bool:
    no_worse = a["flops_ratio"] <= b["flops_ratio"] and a["accuracy"] >= b["accuracy"]
    return no_worse and (a["flops_ratio"] < b["flops_ratio"] or a["accuracy"] > b["accuracy"])


def _wilson(right: int, n: int) -> list[float]:
    p, z = right / n, 1.96
    middle, half = (
        (p + z * z / (2 * n)) / (1 + z * z / n),
        z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n),
    )
    return [middle - half, middle + half]
