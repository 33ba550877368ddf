"""Numbers and schedules in words that a person reads without a manual."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

_ATTENTION = {
    "last": "attention of the last prompt token",
    "text": "attention of the text",
    "visual": "attention of the image itself",
    "all": "attention of all tokens",
    "raters": "attention of the words that match the image",
}
_OTHERS = {
    "encoder": "attention in the vision tower",
    "diversity": "diversity",
    "codebook": "redundancy codebook",
    "random": "random choice",
    "uniform": "even spacing",
}


def percent(share: float | None, digits: int = 1) -> str:
    """0.3456 as ``34.6 %``."""
    return "–" if share is None else f"{share * 100:.{digits}f} %"


def points(share: float | None, digits: int = 1) -> str:
    """A difference of shares in percentage points, without a minus zero."""
    return "–" if share is None else f"{round(share * 100, digits) + 0.0:.{digits}f}".replace("-", "−")


def quality_value(key: str, value: float | None, digits: int = 1) -> str:
    """A value of a quality: nats for ``kl``, else percent."""
    if value is None:
        return "–"
    return f"{value:.3f}" if key == "kl" else percent(value, digits)


def interval(low_high: Any, digits: int = 1) -> str:
    """``[96.1, 98.4]`` in percent, or nothing."""
    return f"[{points(low_high[0], digits)}, {points(low_high[1], digits)}]" if low_high else ""


def milliseconds(value: float | None) -> str:
    """Three significant figures."""
    return "–" if value is None else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def duration(seconds: float) -> str:
    """``5 min 41 s``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def criterion_family(criterion: dict[str, Any] | None) -> str:
    """The short name of a criterion: ``last``, ``text`` … ``random``; ``none`` where none is needed."""
    if not criterion:
        return "none"
    rows = [criterion[key] for key in ("rows", "combine") if criterion.get(key)]
    return "+".join(rows) or str(criterion["name"])


def criterion_words(criterion: dict[str, Any]) -> str:
    """A criterion in words, with the options that differ from the default."""
    name = _ATTENTION[criterion["rows"]] if criterion["name"] == "attention" else _OTHERS[criterion["name"]]
    if criterion.get("combine"):
        name += f" and {_ATTENTION[criterion['combine']]}, the better rank of both"
    skipped = ("name", "rows", "combine", "path", "sha256", "prototypes")
    options = [f"{k} {v}" for k, v in criterion.items() if k not in skipped and v is not None]
    return f"{name} ({', '.join(options)})" if options else name


def keep_words(keep: dict[str, Any]) -> str:
    """A keep rule in words."""
    if "ratio" in keep:
        return f"keep {keep['ratio'] * 100:.4g} %" if keep["ratio"] else "withdraw all visual tokens"
    if "count" in keep:
        return f"keep {keep['count']} tokens"
    if "mass" in keep:
        return f"keep the best tokens that hold {keep['mass'] * 100:g} % of the score"
    return f"keep tokens that score at least {keep['threshold']:g}"


def stage_words(stage: dict[str, Any]) -> str:
    """A stage in words: where, how much, by what."""
    words = f"before layer {stage['layer']}: {keep_words(stage['keep'])}"
    if stage.get("criterion") and stage["keep"].get("ratio") != 0:
        words += f" by {criterion_words(stage['criterion'])}"
    return f"{words}; the others are averaged into them" if stage.get("merge") else words


def stage_short(stage: dict[str, Any]) -> str:
    """A stage in a few signs: ``2: 50 % text``."""
    (rule, value), family = next(iter(stage["keep"].items())), criterion_family(stage.get("criterion"))
    kept = f"{value * 100:.4g} %" if rule == "ratio" else f"{rule} {value:g}"
    return f"{stage['layer']}: {kept}" + ("" if family == "none" else f" {family}")


def model_name(model: dict[str, Any]) -> str:
    """A model's name; of a folder on somebody's disk the last two parts."""
    path = PurePath(model["name"])
    return "/".join(path.parts[-2:]) if path.is_absolute() else str(model["name"])


def point_name(kind: str, point: dict[str, Any]) -> str:
    """What a point is called everywhere on the page; controls name the point that they imitate."""
    name = str(point.get("name") or f"trial {point['trial']}")
    return f"{name} (control of trial {point['of']})" if kind == "control" and f"{point['of']}" not in name else name
