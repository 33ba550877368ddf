"""A schedule as a drawing: how many visual tokens each decoder layer still sees."""

from __future__ import annotations

from html import escape
from typing import Any

from autoprune.report.words import criterion_family, percent, stage_words


def kept_shares(
    stages: list[dict[str, Any]], layers: int, visual_tokens: float | None
) -> list[tuple[float | None, str]]:
    """Per decoder layer the share of visual tokens alive, and the criterion that chose them.

    The share is None from a stage on whose count depends on the input (mass, threshold).
    """
    share: float | None = 1.0
    family, due, out = "none", {s["layer"]: s for s in stages}, []
    for layer in range(layers):
        if stage := due.get(layer):
            rule = stage["keep"]
            if "ratio" in rule:
                share = rule["ratio"] if share is None else min(share, rule["ratio"])
            elif "count" in rule and visual_tokens:
                share = min(1.0 if share is None else share, rule["count"] / visual_tokens)
            else:
                share = None
            family = criterion_family(stage.get("criterion"))
        out.append((share, family))
    return out


def small_drawing(stages: list[dict[str, Any]], layers: int, visual_tokens: float | None) -> str:
    """A strip for a table cell."""
    bars = _bars(kept_shares(stages, layers, visual_tokens), width=96, height=22, gap=0.12)
    size = 'viewBox="0 0 96 22" width="96" height="22"'
    return f'<svg class="strip" {size} role="img" aria-label="{_said(stages)}">{bars}</svg>'


def large_drawing(stages: list[dict[str, Any]], layers: int, visual_tokens: float | None) -> str:
    """A drawing with the layer numbers below, and the share at each change above the bars."""
    shares = kept_shares(stages, layers, visual_tokens)
    width, height, top, bottom = 560, 96, 18, 22
    step, labels = width / layers, []
    every = max(1, round(layers / 16))
    for layer, (share, _) in enumerate(shares):
        middle = (layer + 0.5) * step
        if layer % every == 0:
            labels.append(
                f'<text class="axis" x="{middle:.1f}" y="{top + height + 15}" text-anchor="middle">{layer}</text>'
            )
        if layer == 0 or share != shares[layer - 1][0]:
            y = top + height * (1 - (share if share is not None else 0.5)) - 5
            said = (
                "varies"
                if share is None
                else percent(share, 0 if share in (0, 1) or share >= 0.1 else 1).replace(" ", "")
            )
            labels.append(f'<text class="share" x="{middle:.1f}" y="{y:.1f}" text-anchor="middle">{said}</text>')
    body = f'<g transform="translate(0 {top})">{_bars(shares, width, height, gap=0.14)}</g>{"".join(labels)}'
    size = f'viewBox="0 0 {width} {height + top + bottom}"'
    return f'<svg class="depth" {size} role="img" aria-label="{_said(stages)}">{body}</svg>'


def _bars(shares: list[tuple[float | None, str]], width: float, height: float, gap: float) -> str:
    step, parts = width / len(shares), []
    for layer, (share, family) in enumerate(shares):
        x, w = (layer + gap / 2) * step, step * (1 - gap)
        parts.append(f'<rect class="gone" x="{x:.2f}" y="0" width="{w:.2f}" height="{height}"/>')
        filled = height * (0.5 if share is None else share)
        if filled:
            kind = f"c-{family}" + (" varies" if share is None else "")
            parts.append(
                f'<rect class="{kind}" x="{x:.2f}" y="{height - filled:.2f}" width="{w:.2f}" height="{filled:.2f}"/>'
            )
    return "".join(parts)


def _said(stages: list[dict[str, Any]]) -> str:
    return escape("; ".join(stage_words(s) for s in stages) or "dense: every layer sees all visual tokens")
