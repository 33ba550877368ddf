"""The curves of a withdrawal sweep as one picture that can be read alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from autoprune.analysis.withdrawal.study import SweepResult
from autoprune.evaluate.statistics import Array, Curve
from autoprune.report.png import plain, write_png
from autoprune.report.words import percent

_INK, _ANSWER, _FIRST, _FAINT = "#1c1e23", "#0b5fa5", "#b8480b", "#8b9099"
_LEAST = 1e-6
"""Nats; what is smaller is drawn as this: rounding, not a difference."""


def sweep_png(result: SweepResult, path: str | Path, model: str) -> None:
    """Draw KL by layer with its 95 % bands, the bound, the layer of each rule, and a map of the tasks if there are two.

    Args:
        result: The sweep.
        path: Where the PNG goes.
        model: What to call the model.
    """
    tasks = len(result.tasks) > 1
    figure = Figure(figsize=(13.5 if tasks else 8.4, 5.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, 2 if tasks else 1, squeeze=False, width_ratios=[3, 2] if tasks else [1])[0]
    _curves(panels[0], result, model)
    if tasks:
        _task_map(figure, panels[1], result)
    write_png(figure, path)


def _curves(axes: Axes, result: SweepResult, model: str) -> None:
    answer, first = result.answer["dense_withdrawn"], result.first["withdrawn_dense"]
    words = f"KL(dense ‖ withdrawn), mean over the answer ({result.answer_tokens:.1f} tokens)"
    _band(axes, answer, _ANSWER, "o-", words)
    _band(axes, first, _FIRST, "s--", "KL(withdrawn ‖ dense), first answer token (VTW)")
    if result.bound is not None:
        known = [(k, max(value, _LEAST)) for k, value in enumerate(result.bound) if value is not None]
        axes.plot(
            *zip(*known, strict=True),
            "v",
            color=_ANSWER,
            markersize=5,
            alpha=0.7,
            label="upper bound of the solid curve, 97.5 %",
        )
    axes.axhline(result.eta, color=_INK, linewidth=1)
    axes.annotate(f"eta {result.eta:g}", (0, result.eta), xytext=(-2, 3), textcoords="offset points", fontsize=9)
    if result.noise > _LEAST:
        axes.axhline(result.noise, color=_FAINT, linestyle=":", label="noise floor: dense ‖ dense, other kernels")
    for number, (rule, layer) in enumerate(result.choices.items()):
        if layer is not None:
            axes.axvline(layer, color=_FAINT, linewidth=6, alpha=0.35, zorder=0)
            place = (layer, 0.98 - 0.06 * number)
            axes.annotate(
                f"{rule}: {layer}", place, xycoords=("data", "axes fraction"), ha="right", va="top", fontsize=9,
                xytext=(-5, 0), textcoords="offset points",
            )  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(bottom=max(_LEAST, min(np.min(_numbers(answer.mean)), np.min(_numbers(first.mean)), result.eta) / 3))
    _layers(axes, result, step=1 if len(answer.mean) <= 16 else 4)
    axes.set_ylabel("nats (log scale), mean over samples with 95 % interval")
    axes.grid(color="#e3e0d9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower left", fontsize=8.5, framealpha=0.9)
    axes.set_title(plain(_title(result, model)), loc="left", fontsize=12, fontweight="bold", color=_INK)


def _band(axes: Axes, curve: Curve, colour: str, style: str, label: str) -> None:
    layers = np.arange(len(curve.mean))
    mean, low, high = (np.maximum(_numbers(end), _LEAST) for end in (curve.mean, curve.low, curve.high))
    axes.plot(layers, mean, style, color=colour, markersize=5, linewidth=1.4, label=label)
    axes.fill_between(layers, low, high, color=colour, alpha=0.18, linewidth=0)


def _layers(axes: Axes, result: SweepResult, step: int) -> None:
    ticks = list(range(0, len(result.flops_ratio), step))
    axes.set_xticks(ticks, [f"{k}\n{percent(result.flops_ratio[k], 0)}" for k in ticks], fontsize=8.5)
    axes.set_xlabel("withdraw before this layer; below it the prefill FLOPs, share of dense")


def _task_map(figure: Figure, axes: Axes, result: SweepResult) -> None:
    names = sorted(result.tasks, key=lambda task: -float(np.mean(np.log(np.maximum(result.tasks[task]["kl"], _LEAST)))))
    table = np.maximum([result.tasks[name]["kl"] for name in names], _LEAST)
    norm = LogNorm(max(_LEAST, result.eta / 10), max(float(table.max()), result.eta))
    image = axes.imshow(table, aspect="auto", cmap="cividis", norm=norm, interpolation="nearest")
    axes.set_yticks(
        range(len(names)), [plain(f"{name} ({result.tasks[name]['samples']})") for name in names], fontsize=8.5
    )
    axes.set_xticks(range(0, table.shape[1], 1 if table.shape[1] <= 16 else 4))
    axes.tick_params(axis="x", labelsize=8.5)
    axes.set_xlabel("withdraw before this layer")
    axes.set_title("KL(dense ‖ withdrawn) over the answer, by task (samples)", loc="left", fontsize=10, color=_INK)
    figure.colorbar(image, ax=axes, label="nats")


def _title(result: SweepResult, model: str) -> str:
    if result.layer is None:
        return f"{model}\n{result.rule}: no layer qualifies, do not withdraw"
    saved = percent(result.flops_ratio[result.layer], 0)
    return f"{model}\n{result.rule}: withdraw before layer {result.layer}, {saved} of the prefill FLOPs"


def _numbers(values: list[float | None]) -> Array:
    return np.array(values, dtype=float)  # None becomes NaN
