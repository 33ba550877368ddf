from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data import write_rows
from packing import IGNORE, encode, pack
from processor import VOCABULARY
from questions import PRACTICE, TASKS, Question, ask
from scans import SPLITS, scan_pool
from scenes import GRID, Item, encode_webp, marks_of, paint, random_scene, to_pixel_values


def _scenes(count: int) -> list[tuple[Item, ...]]:
    rng = np.random.default_rng(5)
    return [random_scene(rng) for _ in range(count)]


def _digit(scene: tuple[Item, ...], words: list[str]) -> int:
    """The digit a phrase names, whether or not it is in the scene: `one more than the larger of red and blue`."""
    if words[1:3] == ["more", "than"]:
        return {"one": 1, "2": 2, "3": 3}[words[0]] + _digit(scene, words[3:])
    if words[:2] in (["the", "sum"], ["the", "larger"]):
        middle = words.index("and")
        pair = _digit(scene, words[3:middle]), _digit(scene, words[middle + 1 :])
        return sum(pair) if words[1] == "sum" else max(pair)
    if words[-1].isdigit():
        assert words[:-1] in ([], ["the"], ["a"])
        return int(words[-1])
    (word,) = words
    return next(item.digit for item in scene if item.color == word)


def _item(scene: tuple[Item, ...], words: list[str]) -> Item:
    """The item a phrase names; `left of` and `right of` walk along the columns."""
    if words[0] in ("left", "right"):
        columns = sorted(scene, key=lambda item: item.column)
        return columns[columns.index(_item(scene, words[2:])) + {"left": -1, "right": 1}[words[0]]]
    return next(item for item in scene if item.digit == _digit(scene, words))


def _answer_independently(scene: tuple[Item, ...], prompt: str) -> str:
    """Answer by reading the words of the prompt from left to right."""
    words = prompt[:-1].lower().split()
    text = " ".join(words)
    if words[0] == "read":
        place = words[-1] in ("left", "right")
        ordered = sorted(scene, key=lambda item: item.column if place else item.digit)
        if words[-1] in ("left", "smallest"):
            ordered.reverse()
        return " ".join(item.color if words[2] == "color" else str(item.digit) for item in ordered)
    if text.startswith("how many"):
        return str(len(scene))
    if text.startswith("is there"):
        present = {item.digit for item in scene}
        phrases = text.removeprefix("is there ").split(" and ")
        return "yes" if all(_digit(scene, phrase.split()) in present for phrase in phrases) else "no"
    if text.startswith("which color is"):
        ranked = sorted(scene, key=lambda item: item.digit)
        return ranked[0 if words[-1] == "smallest" else -1].color
    if text.startswith("which digit is larger"):
        phrases = text.removeprefix("which digit is larger ").split(" or ")
        return str(max(_item(scene, phrase.split()).digit for phrase in phrases))
    if text.startswith("what is"):
        return str(_digit(scene, words[2:]))
    if text.startswith("where is"):
        item = _item(scene, words[2:])
        return f"{['top', 'middle', 'bottom'][item.row // 4]}-{['left', 'center', 'right'][item.column // 4]}"
    assert words[:3:2] == ["what", "is"]
    item = _item(scene, words[3:])
    return {"digit": str(item.digit), "color": item.color}[words[1]]


def test_no_scan_is_in_two_sets():
    sources = {split: set(scan_pool(split).sources.tolist()) for split in SPLITS}
    assert sources["calibration"] == sources["validation"]
    assert not sources["train"] & sources["validation"]
    assert not sources["train"] & sources["test"]
    assert not sources["validation"] & sources["test"]
    assert len(sources["train"] | sources["validation"] | sources["test"]) == 1797


def test_items_of_a_scene_share_nothing():
    for scene in _scenes(300):
        assert 3 <= len(scene) <= 6
        for field in ("row", "column", "digit", "color"):
            assert len({getattr(item, field) for item in scene}) == len(scene)


@pytest.mark.parametrize("task", [*TASKS, *PRACTICE])
def test_answers_are_right(task: str):
    rng, asked = np.random.default_rng(8), 0
    for scene in _scenes(300):
        question = ask(scene, task, rng)
        if question is None:
            continue
        asked += 1
        assert question.answer == _answer_independently(scene, question.prompt), (scene, question)
    assert asked > 100


def test_a_digit_is_painted_in_its_cell_and_colour():
    scene = (Item(2, 3, 8, "red"), Item(9, 10, 0, "white"), Item(5, 6, 4, "blue"))
    image = paint(1, marks_of([scene]), scan_pool("test"), np.random.default_rng(0))[0]
    inner = slice(2, 14)  # a neighbour may reach one pixel into a cell
    cells = image.reshape(GRID, 16, GRID, 16, 3)[:, inner, :, inner].max((1, 3)).astype(int)
    bright = {(int(row), int(column)) for row, column in np.argwhere(cells.max(-1) > 160)}
    assert bright == {(item.row, item.column) for item in scene}
    assert cells[2, 3].argmax() == 0
    assert cells[5, 6].argmax() == 2


def test_training_sees_pixels_as_the_image_processor_makes_them(study: Path):
    from transformers import AutoProcessor

    image = paint(1, marks_of(_scenes(1)), scan_pool("train"), np.random.default_rng(0))
    made = AutoProcessor.from_pretrained(study / "model").image_processor(image[0], return_tensors="pt")
    assert (made["pixel_values"] - to_pixel_values(image)).abs().max() < 1e-6


def test_webp_is_lossy_and_close():
    from io import BytesIO

    from PIL import Image

    image = paint(1, marks_of(_scenes(1)), scan_pool("train"), np.random.default_rng(0))[0]
    back = np.asarray(Image.open(BytesIO(encode_webp(image, 90))).convert("RGB")).astype(int)
    difference = np.abs(back - image)
    assert 0 < difference.mean() < 6


def test_a_seed_draws_the_committed_rows(tmp_path: Path, study: Path):
    path = write_rows("test", 3, 2, 0, tmp_path)
    drawn = path.read_text().splitlines()
    assert drawn == (study / "test.jsonl").read_text().splitlines()[:6]
    assert len(list((tmp_path / "images" / "test").glob("*.webp"))) == 3
    other = write_rows("test", 3, 2, 1, tmp_path / "other").read_text().splitlines()
    assert [json.loads(row)["prompt"] for row in other] != [json.loads(row)["prompt"] for row in drawn]


def test_packed_training_questions_hold_prompt_answer_and_end():
    question = Question("read", "Read the digits from smallest to largest.", "1 3 7")
    prompt, answer = encode(question, chat=True)
    words = {index: word for word, index in VOCABULARY.items()}
    decoded = " ".join(words[index] for index in prompt + answer)
    assert decoded == "read the digits from smallest to largest . assistant: 1 3 7 </s>"
    packed = pack(_scenes(4), dict.fromkeys(TASKS, 1.0), 6, True, np.random.default_rng(0))
    for row in range(4):
        for number in range(int(packed.question[row].max()) + 1):
            inside = packed.question[row] == number
            targets, ids = packed.target[row][inside], packed.ids[row][inside]
            assert packed.offset[row][inside].tolist() == list(range(int(inside.sum())))
            supervised = targets[targets != IGNORE]
            assert words[int(supervised[-1])] == "</s>"
            assert supervised[:-1].tolist() == ids[len(ids) - len(supervised) + 1 :].tolist()
