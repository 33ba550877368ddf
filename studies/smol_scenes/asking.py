"""Questions in natural English about a scene, each type in eight wordings of which two are never trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pictures import COLORS, KINDS, Scene, Thing, digits_of

TRAINED, HELD_OUT = (0, 1, 2, 5, 6, 7), (3, 4)
"""Wordings of each type."""
ASKED = TRAINED[:3]
"""Those of the trained ones that the rows are written in."""


@dataclass(frozen=True)
class Question:
    """A question, its one right answer, its type and the number of its wording."""

    task: str
    prompt: str
    answer: str
    wording: int


Filled = tuple[dict[str, object], str] | None
"""What stands in the gaps of a wording, and the answer; None where the scene does not allow the question."""
Make = Callable[[Scene, np.random.Generator], Filled]


def _one(things: Sequence[Thing], rng: np.random.Generator) -> Thing:
    return things[int(rng.integers(len(things)))]


def _two(things: Sequence[Thing], rng: np.random.Generator) -> tuple[Thing, Thing]:
    first, second = rng.permutation(len(things))[:2]
    return things[first], things[second]


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words)


def _a(thing: Thing) -> str:
    """``a red 7``, ``an orange star``."""
    return f"{'an' if thing.color[0] in 'aeiou' else 'a'} {thing.color} {thing.kind}"


def color(scene: Scene, rng: np.random.Generator) -> Filled:
    thing = _one(scene, rng)
    return {"kind": thing.kind}, thing.color


def kind(scene: Scene, rng: np.random.Generator) -> Filled:
    thing = _one(scene, rng)
    return {"color": thing.color}, thing.kind


def place(scene: Scene, rng: np.random.Generator) -> Filled:
    thing = _one(scene, rng)
    return {"thing": f"{thing.color} {thing.kind}"}, thing.place


def present(scene: Scene, rng: np.random.Generator) -> Filled:
    """Half of the wrong ones are in the picture in another colour."""
    if rng.random() < 0.5:
        thing = _one(scene, rng)
        return {"thing": _a(thing)}, "yes"
    if rng.random() < 0.5:
        first, second = _two(scene, rng)
        return {"thing": _a(Thing(0, 0, first.kind, second.color))}, "no"
    absent = [kind for kind in KINDS if kind not in {thing.kind for thing in scene}]
    return {"thing": _a(Thing(0, 0, str(rng.choice(absent)), str(rng.choice(list(COLORS)))))}, "no"


def count(scene: Scene, rng: np.random.Generator) -> Filled:
    digits = len(digits_of(scene))
    what, number = [("things", len(scene)), ("digits", digits), ("shapes", len(scene) - digits)][rng.integers(3)]
    return {"what": what}, str(number)


def side(scene: Scene, rng: np.random.Generator) -> Filled:
    first, second = _two(scene, rng)
    direction = str(rng.choice(["left", "right"]))
    answer = (first.column < second.column) == (direction == "left")
    return {"a": first.kind, "b": second.kind, "side": direction}, "yes" if answer else "no"


def neighbor(scene: Scene, rng: np.random.Generator) -> Filled:
    """The next thing to one side, whatever its row; an answer of two words."""
    at = int(rng.integers(len(scene) - 1))
    left, right = scene[at], scene[at + 1]
    asked, direction, found = (left, "right", right) if rng.random() < 0.5 else (right, "left", left)
    return {"a": f"{asked.color} {asked.kind}", "side": direction}, f"{found.color} {found.kind}"


def larger(scene: Scene, rng: np.random.Generator) -> Filled:
    first, second = _two(digits_of(scene), rng)
    return {"a": first.color, "b": second.color}, str(max(first.value, second.value))


def total(scene: Scene, rng: np.random.Generator) -> Filled:
    first, second = _two(digits_of(scene), rng)
    return {"a": first.color, "b": second.color}, str(first.value + second.value)


def extreme(scene: Scene, rng: np.random.Generator) -> Filled:
    """All digits, one of them, then its colour."""
    word, choose = ("largest", max) if rng.random() < 0.5 else ("smallest", min)
    return {"which": word}, choose(digits_of(scene), key=lambda thing: thing.value).color


def successor(scene: Scene, rng: np.random.Generator) -> Filled:
    """A colour, its digit, the digit after it, then the colour of that."""
    values = {thing.value: thing for thing in digits_of(scene)}
    pairs = [(thing, values[value + 1]) for value, thing in values.items() if value + 1 in values]
    if not pairs:
        return None
    first, second = pairs[int(rng.integers(len(pairs)))]
    return {"a": first.color}, second.color


def colors(scene: Scene, rng: np.random.Generator) -> Filled:
    """An answer of several tokens."""
    return {}, _listed([thing.color for thing in scene])


def ascending(scene: Scene, rng: np.random.Generator) -> Filled:
    """An answer of several tokens."""
    return {}, _listed([thing.kind for thing in sorted(digits_of(scene), key=lambda thing: thing.value)])


def caption(scene: Scene, rng: np.random.Generator) -> Filled:
    """All things with their colours, from left to right."""
    *first, last = [_a(thing) for thing in scene]
    said = f"{_listed(first)} and {last}."
    return {}, said[0].upper() + said[1:]


TASKS: dict[str, tuple[Make, tuple[str, ...]]] = {
    "color": (
        color,
        (
            "What color is the {kind}?",
            "Tell me the color of the {kind}.",
            "The {kind} in this picture has which color?",
            "Which color does the {kind} have?",
            "Look at the {kind}: what is its color?",
            "In what color is the {kind} painted?",
            "Can you tell which color the {kind} is?",
            "Find the {kind} and say its color.",
        ),
    ),
    "kind": (
        kind,
        (
            "Which digit or shape is {color}?",
            "What is the {color} thing?",
            "Name the {color} object.",
            "There is one {color} object here. What is it?",
            "What do you see in {color}?",
            "Find the thing that is {color} and say what it is.",
            "Something in this picture is {color}. What?",
            "Tell me which thing is painted {color}.",
        ),
    ),
    "place": (
        place,
        (
            "Where is the {thing}?",
            "In which part of the picture is the {thing}?",
            "Give the position of the {thing}.",
            "Where can I find the {thing}?",
            "Please locate the {thing}.",
            "Find the {thing} and say where it is.",
            "The {thing} is in which part of the image?",
            "Tell me the place of the {thing}.",
        ),
    ),
    "present": (
        present,
        (
            "Is there {thing}?",
            "Does the picture show {thing}?",
            "Do you see {thing} here?",
            "Can {thing} be found in this image?",
            "Tell me whether there is {thing} in the picture.",
            "Does this image contain {thing}?",
            "Look at the picture: is {thing} in it?",
            "Check whether the picture has {thing}.",
        ),
    ),
    "count": (
        count,
        (
            "How many {what} are there?",
            "Count the {what}.",
            "What is the number of {what} in the picture?",
            "How many {what} do you see in this image?",
            "Please tell me how many {what} the picture has.",
            "Tell me the number of {what}.",
            "What is the count of all {what} here?",
            "Look at the picture. How many {what} does it show?",
        ),
    ),
    "side": (
        side,
        (
            "Is the {a} to the {side} of the {b}?",
            "Is the {a} further {side} than the {b}?",
            "Does the {a} lie {side} of the {b}?",
            "Looking at the picture, is the {a} on the {side} side of the {b}?",
            "Would you say that the {a} is {side} of the {b}?",
            "Tell me whether the {a} is on the {side} of the {b}.",
            "Compare the {a} and the {b}: does the {a} stand more {side} than the other?",
            "Can the {a} be found {side} of the {b}?",
        ),
    ),
    "neighbor": (
        neighbor,
        (
            "What is the next thing to the {side} of the {a}?",
            "Which object comes directly {side} of the {a}?",
            "Name what is just {side} of the {a}.",
            "Going {side} from the {a}, what comes first?",
            "What is the closest object on the {side} side of the {a}?",
            "Tell me the next object {side} of the {a}.",
            "Start at the {a} and go {side}: what do you meet?",
            "Which thing is nearest to the {a} on its {side} side?",
        ),
    ),
    "larger": (
        larger,
        (
            "Which digit is larger, the {a} one or the {b} one?",
            "What is the larger of the {a} digit and the {b} digit?",
            "Compare the {a} and the {b} digit and give the larger one.",
            "Of the {a} digit and the {b} digit, which is greater?",
            "Give me the bigger number: the {a} one or the {b} one.",
            "Is the {a} digit or the {b} digit larger? Give the larger one.",
            "Look at the {a} digit and the {b} digit and tell me the larger one.",
            "Take the {a} and the {b} digit. Which one is greater?",
        ),
    ),
    "sum": (
        total,
        (
            "What is the sum of the {a} and the {b} digit?",
            "Add the {a} digit and the {b} digit.",
            "How much is the {a} digit plus the {b} digit?",
            "If you add up the {a} and {b} digits, what do you get?",
            "What do the {a} number and the {b} number make together?",
            "Sum up the {a} digit and the {b} digit.",
            "The {a} digit plus the {b} digit is how much?",
            "Tell me the total of the {a} number and the {b} number.",
        ),
    ),
    "extreme": (
        extreme,
        (
            "What color is the {which} digit?",
            "Which color does the {which} number have?",
            "Find the {which} digit and name its color.",
            "In what color is the {which} number drawn?",
            "Look for the {which} digit. What color is it?",
            "The {which} digit has which color?",
            "Tell me the color of the {which} number.",
            "Among the digits, which color has the {which} one?",
        ),
    ),
    "successor": (
        successor,
        (
            "What color is the digit that is one more than the {a} digit?",
            "Take the {a} digit and add one: which color does that digit have?",
            "Name the color of the digit that follows the {a} digit.",
            "Which color is the digit one higher than the {a} one?",
            "Add one to the {a} digit. In what color do you see the result?",
            "One digit is the {a} digit plus one. What color is it?",
            "Tell me the color of the digit that comes after the {a} one when counting.",
            "Count on from the {a} digit by one: what color is the digit you reach?",
        ),
    ),
    "colors": (
        colors,
        (
            "List the colors from left to right.",
            "Name all colors from left to right.",
            "Which colors do you see, from left to right?",
            "Going from left to right, what are the colors?",
            "Read out the colors, starting at the left.",
            "Tell me the colors in order from left to right.",
            "Start at the left and name each color.",
            "What are the colors when you read from left to right?",
        ),
    ),
    "ascending": (
        ascending,
        (
            "List the digits from smallest to largest.",
            "Name all digits in ascending order.",
            "Which digits do you see, from low to high?",
            "Sort the digits from the smallest to the largest.",
            "Read out the digits in rising order.",
            "Tell me the digits, beginning with the smallest.",
            "Put the digits in order, the smallest first.",
            "What are the digits, sorted upwards?",
        ),
    ),
    "caption": (
        caption,
        (
            "Describe the picture.",
            "What does this picture show?",
            "Write a caption for this image.",
            "What can be seen in this image?",
            "Please give a short description of the picture.",
            "Tell me what is in the picture.",
            "Describe everything that you see here.",
            "Summarize this image in one sentence.",
        ),
    ),
}


def ask(scene: Scene, task: str, wordings: Sequence[int], rng: np.random.Generator) -> Question | None:
    """A question of a type in one of these wordings, if the scene allows it."""
    make, texts = TASKS[task]
    filled = make(scene, rng)
    if filled is None:
        return None
    wording = int(rng.choice(list(wordings)))
    return Question(task, texts[wording].format(**filled[0]), filled[1], wording)
