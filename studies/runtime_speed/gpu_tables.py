"""The tables of gpu.py as Markdown."""

from __future__ import annotations

from itertools import groupby
from typing import Any

FIGURES = (
    "schedule",
    "dense ms",
    "pruned ms",
    "FLOPs",
    "time",
    "**time saved ÷ FLOPs saved**",
    "least possible time",
    "its ÷",
    "decode ms per token, dense",
    "pruned",
    "peak memory MB, dense",
    "pruned",
    "KV MB, dense",
    "pruned",
)
OVERHEADS = ("schedule", "scores", "choose, gather, scatter", "all kept", "decode step")
TOWER = ("schedule", "dense prefill ms", "pruned ms", "time", "dense to the last token ms", "pruned ms")


def markdown(content: dict[str, Any]) -> str:
    """All tables; brackets hold interquartile ranges over the rounds."""
    setup = content["setup"]
    lines = [
        "# Times on a GPU",
        "",
        f"{setup['gpu'] or setup['cpu']}, {setup['layers']} layers of width {setup['width']}, {setup['dtype']}, "
        f"{setup['attention']} attention, random weights; prompts of {setup['text_tokens']} text tokens, "
        f"{setup['new_tokens']} generated; medians over {setup['rounds']} timed rounds, "
        "interquartile ranges in brackets; memory: growth during the prefill. Written by "
        f"`studies/runtime_speed/gpu.py` in {setup.get('seconds', 0):.0f} s; "
        f"versions: {', '.join(f'{name} {version}' for name, version in setup['versions'].items())}.",
        "",
        "## Exactness",
        exactness(content["exactness"]),
    ]
    for (batch, visual), group in groupby(content["text_model"], lambda row: (row["batch"], row["visual_tokens"])):
        rows = list(group)
        lines += [
            "",
            f"## Text model, batch {batch}, {visual} visual tokens",
            *table(FIGURES, rows, figures),
            "",
            "What the runtime takes, as shares of the dense prefill (decode: of a dense step):",
            "",
            *table(OVERHEADS, rows, overheads),
        ]
    for batch, group in groupby(content["with_tower"], lambda row: row["batch"]):
        lines += ["", f"## With vision tower and projector, batch {batch}", *table(TOWER, list(group), tower)]
    return "\n".join(lines) + "\n"


def exactness(report: dict[str, Any]) -> str:
    if not report or "left_out" in report:
        return f"Not measured: {report.get('left_out', 'not yet')}."
    counts = {
        status: sum(r["status"] == status for r in report["results"]) for status in ("pass", "fail", "not applicable")
    }
    faults = [f"{r['schedule']}, {r['check']}: {r['reason']}" for r in report["results"] if r["status"] == "fail"]
    noise = ", ".join(f"{name} {value:.1e}" for name, value in report["noise"].items() if value is not None)
    verdict = "exact" if report["passed"] else "NOT exact" if faults else "not shown"
    return (
        f"Pruning is {verdict} against the masked reference on the first {report['layers']} layers "
        f"({report['reference']} attention, {report['dtype']}): "
        f"{counts['pass']} checks passed, {counts['fail']} failed, {counts['not applicable']} not applicable. Relative "
        f"distances of dense runs: {noise}; allowed {report['tolerance']:.1e}." + "".join(f"\n* {f}" for f in faults)
    )


def table(columns: tuple[str, ...], rows: list[dict[str, Any]], cells: Any) -> list[str]:
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    for row in rows:
        missing = [f"not measured: {row.get('left_out')}", *[""] * (len(columns) - 2)]
        content = missing if "left_out" in row else cells(row)
        lines.append(f"| {row['name']} | {' | '.join(content)} |")
    return lines


def figures(row: dict[str, Any]) -> list[str]:
    dense, pruned = row["dense"], row["pruned"]
    arm, saved, floor = pruned["arm"], pruned["saved_ratio"], pruned["floor_saved_ratio"]
    steps = [spread(a["decode_ms"]) for a in (dense, arm)]
    memory = [megabytes(a["memory"]["growth_bytes"]) for a in (dense, arm)]
    return [
        spread(dense["decoder_ms"]),
        spread(arm["decoder_ms"]),
        "–" if pruned["flops_ratio"] is None else f"{100 * pruned['flops_ratio']:.1f} %",
        share(pruned["time_ratio"]),
        f"**{spread(saved)}**",
        share(pruned["floor_ratio"]),
        spread(floor),
        *steps,
        *memory,
        *(megabytes(a["kv_bytes"]) for a in (dense, arm)),
    ]


def overheads(row: dict[str, Any]) -> list[str]:
    extra = row["pruned"]["overheads"]
    return ["–" if extra[k] is None else share(extra[k]["share"]) for k in ("scorer", "gather", "keep_all", "decode")]


def tower(row: dict[str, Any]) -> list[str]:
    dense, pruned = row["dense"], row["pruned"]

    def cell(arm: dict[str, Any], name: str, iqr: str) -> str:
        return spread({"median": arm[name], "iqr": arm[iqr]})

    return [
        cell(dense, "prefill_ms", "spread"),
        cell(pruned, "prefill_ms", "spread"),
        f"{100 * pruned['prefill_ms'] / dense['prefill_ms']:.1f} %",
        cell(dense, "end_to_end_ms", "end_to_end_spread"),
        cell(pruned, "end_to_end_ms", "end_to_end_spread"),
    ]


def spread(value: dict[str, float] | None) -> str:
    return "–" if value is None else f"{value['median']:.2f} [{value['iqr']:.2f}]"


def share(value: dict[str, float]) -> str:
    return f"{100 * value['median']:.1f} % [{100 * value['iqr']:.1f}]"


def megabytes(count: int | None) -> str:
    return "–" if count is None else f"{count / 1e6:.1f}"
