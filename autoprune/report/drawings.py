"""A schedule as a drawing: how many visual tokens each decoder layer still sees. Templates draw what stands here."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.report.words import criterion_class, percent, stage_words
from autoprune.schedule import Schedule, Stage

_LABEL = 40
"""Width of the widest share, ``100%``, in units of the drawing; nearer to an edge it would be cut off."""


@dataclass(frozen=True)
class Bar:
    """The bar of one decoder layer: the part that stays, in front of what is gone; lengths in units of the drawing."""

    x: float
    width: float
    y: float
    height: float
    kind: str


@dataclass(frozen=True)
class Label:
    """A text centred at a place."""

    x: float
    y: float
    text: str
    kind: str


@dataclass(frozen=True)
class Drawing:
    """Bars from left to right, labels around them.

    Attributes:
        top: Room above the bars.
        bars_height: Height of a bar that keeps everything.
        words: The schedule for those who do not see the drawing.
    """

    width: float
    height: float
    top: float
    bars_height: float
    bars: tuple[Bar, ...]
    labels: tuple[Label, ...]
    words: str


def kept_shares(
    stages: tuple[Stage, ...], layers: int, visual_tokens: float | None
) -> list[tuple[float | None, Stage | None]]:
    """Per decoder layer the share of visual tokens alive, and the stage that chose them.

    The share is None from a stage on whose count depends on the input (mass, threshold).
    """
    share: float | None = 1.0
    last, due, out = None, {s.layer: s for s in stages}, []
    for layer in range(layers):
        if stage := due.get(layer):
            last, keep = stage, stage.keep
            if keep.ratio is not None:
                share = keep.ratio if share is None else min(share, keep.ratio)
            elif keep.count is not None and visual_tokens:
                share = min(1.0 if share is None else share, keep.count / visual_tokens)
            else:
                share = None
        out.append((share, last))
    return out


def small_drawing(schedule: Schedule, layers: int, visual_tokens: float | None) -> Drawing:
    """A strip for a table cell."""
    bars = _bars(kept_shares(schedule.stages, layers, visual_tokens), width=96, height=22, gap=0.12)
    return Drawing(96, 22, 0, 22, bars, (), _words(schedule))


def large_drawing(schedule: Schedule, layers: int, visual_tokens: float | None) -> Drawing:
    """A drawing with the layer numbers below, and the share at each change above the bars."""
    shares = kept_shares(schedule.stages, layers, visual_tokens)
    width, height, top, bottom = 560, 96, 18, 22
    step, labels = width / layers, []
    every = max(1, round(layers / 16))
    for layer, (share, _) in enumerate(shares):
        middle = (layer + 0.5) * step
        if layer % every == 0:
            labels.append(Label(middle, top + height + 15, str(layer), "axis"))
        if layer == 0 or share != shares[layer - 1][0]:
            y = top + height * (1 - (share if share is not None else 0.5)) - 5
            labels.append(Label(min(max(middle, _LABEL / 2), width - _LABEL / 2), y, _share_words(share), "share"))
    bars = _bars(shares, width, height, gap=0.14)
    return Drawing(width, height + top + bottom, top, height, bars, tuple(labels), _words(schedule))


def _bars(shares: list[tuple[float | None, Stage | None]], width: float, height: float, gap: float) -> tuple[Bar, ...]:
    step, bars = width / len(shares), []
    for layer, (share, stage) in enumerate(shares):
        filled = height * (0.5 if share is None else share)
        kind = criterion_class(stage.criterion if stage else None) + (" varies" if share is None else "")
        bars.append(Bar((layer + gap / 2) * step, step * (1 - gap), height - filled, filled, kind))
    return tuple(bars)


def _share_words(share: float | None) -> str:
    if share is None:
        return "varies"
    return percent(share, 0 if share in (0, 1) or share >= 0.1 else 1).replace(" ", "")


def _words(schedule: Schedule) -> str:
    return "; ".join(map(stage_words, schedule.stages)) or "dense: every layer sees all visual tokens"
