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


def _apart(scene: Scene, step: int) -> list[tuple[Item, Item]]:
    return [(item, other) for item in scene for other in scene if other.digit == item.digit + step]


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
    """A digit, then the colour of the digit after it."""
    pair = _one(_apart(scene, 1), rng)
    return pair and (f"What color is one more than {pair[0].color}?", pair[1].color)


def offset(scene: Scene, rng: np.random.Generator) -> Asked:
    """As `successor`, two or three further."""
    step = int(rng.integers(2, 4))
    pair = _one(_apart(scene, step), rng)
    return pair and (f"What color is {step} more than {pair[0].color}?", pair[1].color)


def sum_color(scene: Scene, rng: np.random.Generator) -> Asked:
    """Two digits, then the colour of the digit that is their sum."""
    triples = [
        (first, second, third)
        for first in scene
        for second in scene
        for third in scene
        if first != second and third not in (first, second) and third.digit == first.digit + second.digit
    ]
    found = _one(triples, rng)
    return found and (f"What color is the sum of {found[0].color} and {found[1].color}?", found[2].color)


def larger_successor(scene: Scene, rng: np.random.Generator) -> Asked:
    """Two digits, the larger of them, then the colour of the digit after it."""
    options = [(item, other, after) for item, after in _apart(scene, 1) for other in scene if other.digit < item.digit]
    found = _one(options, rng)
    if found is None:
        return None
    first, second = rng.permutation([found[0].color, found[1].color])
    return f"What color is one more than the larger of {first} and {second}?", found[2].color


def successor_where(scene: Scene, rng: np.random.Generator) -> Asked:
    """A digit, then the place of the digit after it."""
    pair = _one(_apart(scene, 1), rng)
    return pair and (f"Where is one more than {pair[0].color}?", region(pair[1]))


def two_chains(scene: Scene, rng: np.random.Generator) -> Asked:
    """Two digits, then whether both digits after them are there."""
    after = dict(_apart(scene, 1))
    followed, last = [item for item in scene if item in after], [item for item in scene if item not in after]
    if rng.random() < 0.68:  # many scenes allow no yes: so both answers come about equally often
        if len(followed) < 2:
            return None
        first, second = _two(followed, rng)
        answer = "yes"
    else:
        first = last[rng.integers(len(last))]
        second = _two([item for item in scene if item != first], rng)[0]
        first, second = _two([first, second], rng)
        answer = "no"
    return f"Is there one more than {first.color} and one more than {second.color}?", answer


def _sorted(scene: Scene, rng: np.random.Generator) -> tuple[str, list[Item]]:
    falling = rng.random() < 0.5
    ordered = sorted(scene, key=lambda item: item.digit, reverse=bool(falling))
    return "largest to smallest" if falling else "smallest to largest", ordered


def read(scene: Scene, rng: np.random.Generator) -> Asked:
    """An answer of several tokens."""
    order, ordered = _sorted(scene, rng)
    return f"Read the digits from {order}.", " ".join(str(item.digit) for item in ordered)


def read_colors(scene: Scene, rng: np.random.Generator) -> Asked:
    """An answer of several tokens, each a chain: colour, its digit, the next digit, its colour."""
    order, ordered = _sorted(scene, rng)
    return f"Read the color of digits from {order}.", " ".join(item.color for item in ordered)


def side(scene: Scene, rng: np.random.Generator) -> Asked:
    found = _one(_sides(scene), rng)
    return found and (f"What digit is {found[1]} of the {found[0].digit}?", str(found[2].digit))


def side_color(scene: Scene, rng: np.random.Generator) -> Asked:
    found = _one(_sides(scene), rng)
    return found and (f"What color is {found[1]} of {found[0].color}?", found[2].color)


def larger_side(scene: Scene, rng: np.random.Generator) -> Asked:
    options = _sides(scene)
    first, second = (options[index] for index in rng.permutation(len(options))[:2])
    if first[2] == second[2]:
        return None
    prompt = f"Which digit is larger {first[1]} of {first[0].color} or {second[1]} of {second[0].color}?"
    return prompt, str(max(first[2].digit, second[2].digit))


def successor_side(scene: Scene, rng: np.random.Generator) -> Asked:
    after = {other: item for item, other in _apart(scene, 1)}
    found = _one([(after[item], side_, beside) for item, side_, beside in _sides(scene) if item in after], rng)
    return found and (f"What digit is {found[1]} of one more than {found[0].color}?", str(found[2].digit))


def read_across(scene: Scene, rng: np.random.Generator) -> Asked:
    backwards = rng.random() < 0.5
    ordered = sorted(scene, key=lambda item: item.column, reverse=bool(backwards))
    direction = "right to left" if backwards else "left to right"
    return f"Read the digits from {direction}.", " ".join(str(item.digit) for item in ordered)


Task = Callable[[Scene, np.random.Generator], Asked]

TASKS: dict[str, Task] = {
    "digit_of": digit_of,
    "color_of": color_of,
    "where": where,
    "count": count,
    "exist": exist,
    "larger": larger,
    "sum": total,
    "extreme": extreme,
    "successor": successor,
    "offset": offset,
    "sum_color": sum_color,
    "larger_successor": larger_successor,
    "successor_where": successor_where,
    "two_chains": two_chains,
    "read": read,
    "read_colors": read_colors,
}
"""The tasks of the data files."""

PRACTICE: dict[str, Task] = {
    "side": side,
    "side_color": side_color,
    "larger_side": larger_side,
    "successor_side": successor_side,
    "read_across": read_across,
}
"""Asked early in training only: they order digits by their place, which this model does not learn in the time given."""

_PROMPT_WORDS = """
    what which where how many digit digits is are there a the color largest smallest larger or sum of and one more than
    left right read from to yes no ? .
"""
WORDS = sorted({str(number) for number in range(18)} | set(COLOR_NAMES) | set(REGIONS) | set(_PROMPT_WORDS.split()))
"""Every word of a prompt or an answer."""


def ask(scene: Scene, task: str, rng: np.random.Generator) -> Question | None:
    """Ask a task, or one of the practice, about the scene, if the scene allows it."""
    asked = (TASKS | PRACTICE)[task](scene, rng)
    return Question(task, *asked) if asked else None
