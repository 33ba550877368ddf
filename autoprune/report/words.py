"""Numbers and schedules in words that a person reads without a manual."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autoprune.evaluate.objectives import SHARE, Objective, Unit
from autoprune.schedule import Criterion, Keep, Stage

percent = SHARE.value
"""0.3456 as ``34.6 %``."""
points = SHARE.change
"""A difference of shares in percentage points, without a minus zero."""


UNPRICED = "FLOPs end to end are not priced: what vision tower and projector of this model compute was not counted."
"""Said wherever a front has no such figure."""


def share_or_not_priced(share: float | None) -> str:
    """``34.6 %``, or that the cost of a part is not known."""
    return "not priced" if share is None else percent(share)


def cost_and_loss(flops_ratio: float, drop: float, quality: Objective) -> str:
    """``34.0 % of the prefill FLOPs, loses 0.8 points of accuracy``."""
    return f"{percent(flops_ratio)} of the prefill FLOPs, loses {quality.unit.loss(drop)} of {quality.label}"


def interval(low_high: tuple[float | None, float | None] | None, digits: int = 1) -> str:
    """``[96.1, 98.4]`` in percent, or nothing."""
    return f"[{points(low_high[0], digits)}, {points(low_high[1], digits)}]" if low_high else ""


def ends(unit: Unit, low_high: tuple[float, float] | None) -> str:
    """``[−1.2, 3.4]`` in the unit of a difference, or nothing."""
    return f"[{unit.change(low_high[0])}, {unit.change(low_high[1])}]" if low_high else ""


def p_words(p: float | None) -> str:
    """A p-value with two significant figures; a dash where there is none."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.2g}"


def listed(names: Sequence[str], mark: str = "") -> str:
    """``a, b and c``, each between two marks."""
    marked = [f"{mark}{name}{mark}" for name in names]
    return " and ".join([", ".join(marked[:-1]), marked[-1]] if len(marked) > 1 else marked)


def milliseconds(value: float | None) -> str:
    """Three significant figures."""
    return "–" if value is None else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def duration(seconds: float) -> str:
    """``5 min 41 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def criterion_class(criterion: Criterion | None) -> str:
    """The CSS class of a criterion's colour; ``c-none`` where all tokens stay or none is needed."""
    return "c-" + (re.sub(r"[^a-z0-9]+", "-", criterion.family.lower()) if criterion else "none")


def keep_words(keep: Keep) -> str:
    """A keep rule in words."""
    if keep.ratio == 0:
        return "withdraw all visual tokens"
    words = {
        "ratio": f"keep {keep.value * 100:.4g} %",
        "count": f"keep {keep.value:g} tokens",
        "mass": f"keep the best tokens that hold {keep.value * 100:g} % of the score",
        "threshold": f"keep tokens that score at least {keep.value:g}",
    }
    return words[keep.kind]


def stage_words(stage: Stage) -> str:
    """A stage in words: where, how much, by what."""
    words = f"before layer {stage.layer}: {keep_words(stage.keep)}"
    if stage.criterion and not stage.withdraws:
        words += f" by {stage.criterion.words}"
    return f"{words}; the others are averaged into them" if stage.merge else words


def stage_short(stage: Stage) -> str:
    """A stage in a few signs: ``2: 50 % text``."""
    keep = stage.keep
    kept = f"{keep.value * 100:.4g} %" if keep.kind == "ratio" else f"{keep.kind} {keep.value:g}"
    return f"{stage.layer}: {kept}" + (f" {stage.criterion.family}" if stage.criterion else "")
