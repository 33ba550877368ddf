"""The questions asked about a scene. Every prompt ends with its key word, then one mark.

A task is one function (scene, rng) -> (prompt, answer), or None where the scene does not allow the question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scenes import COLOR_NAMES, GRID, Item

Scene = Sequence[Item]
Asked = tuple[str, str] | None
_T = TypeVar("_T")

_VERTICAL, _HORIZONTAL = ("top", "middle", "bottom"), ("left", "center", "right")
REGIONS = [f"{vertical}-{horizontal}" for vertical in _VERTICAL for horizontal in _HORIZONTAL]


@dataclass(frozen=True)
class Question:
    """A prompt in plain language, its one right answer and its task."""

    task: str
    prompt: str
    answer: str


def region(item: Item) -> str:
    """The ninth of the picture that holds the item."""
    third = GRID // 3
    return REGIONS[item.row // third * 3 + item.column // third]


def neighbour(scene: Scene, item: Item, side: str) -> Item | None:
    """The next item to the left or right, whatever its row."""
    step = 1 if side == "right" else -1
    beyond = [other for other in scene if (other.column - item.column) * step > 0]
    return min(beyond, key=lambda other: abs(other.column - item.column), default=None)


def _one(options: Sequence[_T], rng: np.random.Generator) -> _T | None:
    return options[rng.integers(len(options))] if options else None


def _two(scene: Scene, rng: np.random.Generator) -> tuple[Item, Item]:
    first, second = rng.permutation(len(scene))[:2]
    return scene[first], scene[second]


def _sides(scene: Scene) -> list[tuple[Item, str, Item]]:
    pairs = [(item, side, neighbour(scene, item, side)) for item in scene for side in ("left", "right")]
    return [(item, side, other) for item, side, other in pairs if other is not None]


def _successors(scene: Scene) -> list[tuple[Item, Item]]:
    return [(item, other) for item in scene for other in scene if other.digit == item.digit + 1]


def digit_of(scene: Scene, rng: np.random.Generator) -> Asked:
    item = scene[rng.integers(len(scene))]
    return f"What digit is {item.color}?", str(item.digit)


def color_of(scene: Scene, rng: np.random.Generator) -> Asked:
    item = scene[rng.integers(len(scene))]
    return f"What color is the {item.digit}?", item.color


def where(scene: Scene, rng: np.random.Generator) -> Asked:
    item = scene[rng.integers(len(scene))]
    return f"Where is the {item.digit}?", region(item)


def count(scene: Scene, rng: np.random.Generator) -> Asked:
    return "How many digits are there?", str(len(scene))


def exist(scene: Scene, rng: np.random.Generator) -> Asked:
    present = {item.digit for item in scene}
    wanted = rng.random() < 0.5
    digit = rng.choice([digit for digit in range(10) if (digit in present) == wanted])
    return f"Is there a {digit}?", "yes" if wanted else "no"


def larger(scene: Scene, rng: np.random.Generator) -> Asked:
    first, second = _two(scene, rng)
    return f"Which digit is larger {first.color} or {second.color}?", str(max(first.digit, second.digit))


def total(scene: Scene, rng: np.random.Generator) -> Asked:
    first, second = _two(scene, rng)
    return f"What is the sum of {first.color} and {second.color}?", str(first.digit + second.digit)


def extreme(scene: Scene, rng: np.random.Generator) -> Asked:
    word, choose = ("smallest", min) if rng.random() < 0.5 else ("largest", max)
    return f"Which color is {word}?", choose(scene, key=lambda item: item.digit).color


def successor(scene: Scene, rng: np.random.Generator) -> Asked:
    pair = _one(_successors(scene), rng)
    return pair and (f"What color is one more than {pair[0].color}?", pair[1].color)


def side(scene: Scene, rng: np.random.Generator) -> Asked:
    found = _one(_sides(scene), rng)
    return found and (f"What digit is {found[1]} of the {found[0].digit}?", str(found[2].digit))


def side_color(scene: Scene, rng: np.random.Generator) -> Asked:
    found = _one(_sides(scene), rng)
    return found and (f"What color is {found[1]} of {found[0].color}?", found[2].color)


def larger_side(scene: Scene, rng: np.random.Generator) -> Asked:
    """Two chains in one question."""
    options = _sides(scene)
    first, second = (options[index] for index in rng.permutation(len(options))[:2])
    if first[2] == second[2]:
        return None
    prompt = f"Which digit is larger {first[1]} of {first[0].color} or {second[1]} of {second[0].color}?"
    return prompt, str(max(first[2].digit, second[2].digit))


def successor_side(scene: Scene, rng: np.random.Generator) -> Asked:
    """A chain of three looks: a digit, the digit after it, what stands beside that one."""
    after = {other: item for item, other in _successors(scene)}
    found = _one([(after[item], side_, beside) for item, side_, beside in _sides(scene) if item in after], rng)
    return found and (f"What digit is {found[1]} of one more than {found[0].color}?", str(found[2].digit))


def read(scene: Scene, rng: np.random.Generator) -> Asked:
    """The one task whose answer has several tokens."""
    backwards = rng.random() < 0.5
    ordered = sorted(scene, key=lambda item: item.column, reverse=bool(backwards))
    direction = "right to left" if backwards else "left to right"
    return f"Read the digits from {direction}.", " ".join(str(item.digit) for item in ordered)


TASKS: dict[str, Callable[[Scene, np.random.Generator], Asked]] = {
    "digit_of": digit_of,
    "color_of": color_of,
    "where": where,
    "count": count,
    "exist": exist,
    "larger": larger,
    "sum": total,
    "extreme": extreme,
    "successor": successor,
    "side": side,
    "side_color": side_color,
    "larger_side": larger_side,
    "successor_side": successor_side,
    "read": read,
}

_PROMPT_WORDS = """
    what which where how many digit digits is are there a the color largest smallest larger or sum of and one more than
    left right read from to yes no ? .
"""
WORDS = sorted({str(number) for number in range(18)} | set(COLOR_NAMES) | set(REGIONS) | set(_PROMPT_WORDS.split()))
"""Every word of a prompt or an answer."""


def ask(scene: Scene, task: str, rng: np.random.Generator) -> Question | None:
    """Ask `task` about the scene, if the scene allows it."""
    asked = TASKS[task](scene, rng)
    return Question(task, *asked) if asked else None
