"""A benchmark as tables for a terminal."""

from __future__ import annotations

from typing import Any

from autoprune.bench.results import Arm, Benchmark, Overhead, PrunedTimes, Setting
from autoprune.cli.output import stdout, table
from autoprune.evaluate.timing import Spread
from autoprune.report.words import percent


def show(described: dict[str, Any], result: Benchmark) -> None:
    """Print two tables for each setting, and what stands in them."""
    console = stdout()
    for setting in result.settings:
        console.print(_figures(setting))
        console.print()
        console.print(_overheads(setting))
        console.print()
    place, how = result.machine, result.settings[0].dense.memory.how
    weights = "random weights" if described["random_init"] else "its own weights"
    used = "" if place["gpu"] else f", {place['threads']} threads on {place['cores']} cores, load {place['load']:.1f}"
    console.print(
        f"Medians of {described['repeats']} rounds, interquartile range in brackets. {described['layers']} decoder "
        f"layers, {weights}, {described['dtype']}, {described['attention']} attention, "
        f"on {place['gpu'] or place['cpu']}{used}."
    )
    console.print(
        "Prefill: text model and one head row, no vision tower. FLOPs, time and saved: the text model alone. Memory: "
        f"growth during the prefill ({how}). KV: measured; = the plan of autoprune.cost, unless another is given."
    )
    if result.unpriced:
        console.print(result.unpriced)


def _figures(setting: Setting) -> Any:
    rows = table(
        f"batch {setting.batch_size}, {setting.visual_tokens} visual and {setting.text_tokens} text tokens",
        *("", "prefill ms", "decode ms/token", "memory MB", "KV MB", "FLOPs", "time", "time saved ÷ FLOPs saved"),
    )
    rows.add_row(*_arm("dense", setting.dense), "100 %", "100 %", "")
    for pruned in setting.pruned:
        ratio, saved = pruned.time_ratio, pruned.saved_ratio
        rows.add_row(
            *_arm(pruned.name, pruned.arm), percent(pruned.flops_ratio), _share(ratio), spread(saved) if saved else "–"
        )
    return rows


def _overheads(setting: Setting) -> Any:
    rows = table(
        "what pruning itself takes: shares of the dense prefill, and of a dense decode step",
        *("", "least possible time", "scores", "choose, gather, scatter", "all kept", "decode step"),
    )
    for pruned in setting.pruned:
        names = ("scorer", "gather", "keep_all", "decode")
        rows.add_row(pruned.name, _floor(pruned), *(_overhead(pruned.overheads[name]) for name in names))
    return rows


def _arm(name: str, arm: Arm) -> tuple[str, ...]:
    memory, plan = arm.memory.growth_bytes, arm.kv_bytes_plan
    kv = _megabytes(arm.kv_bytes)
    return (
        name,
        spread(arm.prefill_ms),
        spread(arm.decode_ms) if arm.decode_ms else "–",
        "–" if memory is None else _megabytes(memory),
        kv if plan in (None, arm.kv_bytes) else f"{kv} (plan {_megabytes(plan)})",
    )


def _floor(pruned: PrunedTimes) -> str:
    saved = pruned.floor_saved_ratio
    return _share(pruned.floor_ratio) + (f", saved ÷ {saved.median:.2f}" if saved else "")


def _overhead(extra: Overhead | None) -> str:
    return "–" if extra is None else _share(extra.share)


def spread(value: Spread) -> str:
    """A median with its interquartile range."""
    digits = 0 if value.median >= 100 else 1 if value.median >= 10 else 2
    return f"{value.median:.{digits}f} [{value.iqr:.{digits}f}]"


def _share(value: Spread) -> str:
    return f"{100 * value.median:.1f} % [{100 * value.iqr:.1f}]"


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.2f}" if count < 1e7 else f"{count / 1e6:.0f}"
