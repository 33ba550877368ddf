"""Rows of a data set: each becomes a `Sample`, or an error that names the field and the remedy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprune.data.images import ImageSource

FIELDS = ("image", "images", "video", "prompt", "answers", "choices", "answer", "task", "id", "group")
IMAGE_MARK = "<image>"


@dataclass(frozen=True)
class Sample:
    """One question about one or more images.

    Attributes:
        id: Name of the row; its number when the data set has none.
        prompt: The question, with or without ``<image>`` marks.
        images: The images, in the order of the marks.
        answers: Accepted strings; empty when the dense model's own greedy answer is the reference.
        choices: Options that are scored by their log-probability, or None.
        answer: Index of the right choice; None without `choices`.
        task: Group that results are also reported for, such as ``ocr``; None when the row names none.
        group: Samples that share it are not independent: the cluster for intervals.
    """

    id: str
    prompt: str
    images: tuple[ImageSource, ...]
    answers: tuple[str, ...]
    choices: tuple[str, ...] | None
    answer: int | None
    task: str | None
    group: str

    @property
    def digest(self) -> str:
        """Digest of everything that can change a result: the fields and the bytes of the images."""
        fields = {
            "id": self.id,
            "prompt": self.prompt,
            "images": [image.sha256 for image in self.images],
            "answers": self.answers,
            "choices": self.choices,
            "answer": self.answer,
            "task": self.task,
            "group": self.group,
        }
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


class RowError(ValueError):
    """An error in one field of one row, with its remedy."""

    def __init__(self, field: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.field, self.message, self.remedy = field, message, remedy


def parse_row(row: Mapping[str, Any], number: int, base: Path) -> Sample:
    """The sample of one row.

    Args:
        row: The fields under the names in `FIELDS`; one that is absent or None is not given.
        number: Row number, 0-based: the default `id`.
        base: Folder that relative image paths start at.

    Raises:
        RowError: a field is missing or cannot be used.
    """
    given = {name: value for name, value in row.items() if value is not None}
    if "video" in given:
        raise RowError("video", "videos cannot be read", "give the frames as `images`")
    prompt = _text(given, "prompt")
    images = _images(given, base)
    marks = prompt.count(IMAGE_MARK)
    if marks not in (0, len(images)):
        raise RowError(
            "prompt",
            f"holds {marks} {IMAGE_MARK} marks for {len(images)} images",
            f"write one {IMAGE_MARK} per image, or none: the images then come before the prompt",
        )
    choices, answer = _choices(given)
    return Sample(
        id=str(given.get("id", number)),
        prompt=prompt,
        images=images,
        answers=_answers(given),
        choices=choices,
        answer=answer,
        task=str(given["task"]) if "task" in given else None,
        group=str(given.get("group") or hashlib.sha256("".join(i.sha256 for i in images).encode()).hexdigest()),
    )


def _text(given: dict[str, Any], field: str) -> str:
    value = given.get(field)
    if value is None:
        raise RowError(field, "is missing", f"give every row a `{field}`, or name its column in `columns`")
    if not isinstance(value, str) or not value.strip():
        raise RowError(field, f"must be a text that is not empty, is {value!r}", "write the question as a string")
    return value


def _images(given: dict[str, Any], base: Path) -> tuple[ImageSource, ...]:
    if "image" in given and "images" in given:
        raise RowError("images", "and `image` are both given", "keep one of them")
    field = "image" if "image" in given else "images"
    cells = given.get(field)
    if cells is None or (field == "images" and (not isinstance(cells, (list, tuple)) or not cells)):
        raise RowError("image", "is missing", "give `image` (one path) or `images` (a list of paths)")
    sources = []
    for cell in [cells] if field == "image" else cells:
        try:
            sources.append(ImageSource.from_cell(cell, base))
        except ValueError as error:
            raise RowError(field, str(error), "paths are relative to the data file") from error
    return tuple(sources)


def _answers(given: dict[str, Any]) -> tuple[str, ...]:
    answers = given.get("answers")
    if answers is None:
        return ()
    if "choices" in given:
        raise RowError("answers", "and `choices` are both given", "keep one of them")
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(answers, (list, tuple)) or not answers or not all(isinstance(a, str) for a in answers):
        raise RowError(
            "answers", f"must be a list of strings, is {answers!r}", "quote numbers; leave out an empty list"
        )
    return tuple(answers)


def _choices(given: dict[str, Any]) -> tuple[tuple[str, ...] | None, int | None]:
    choices, answer = given.get("choices"), given.get("answer")
    if choices is None:
        if answer is not None:
            raise RowError("answer", "is given without `choices`", "write accepted strings as the list `answers`")
        return None, None
    if not isinstance(choices, (list, tuple)) or len(choices) < 2 or not all(isinstance(c, str) and c for c in choices):
        raise RowError("choices", f"must be two or more strings, is {choices!r}", "list every option")
    if len(set(choices)) < len(choices):
        raise RowError("choices", "holds the same option twice", "list every option once")
    if isinstance(answer, str) and answer in choices:
        return tuple(choices), list(choices).index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return tuple(choices), answer
    raise RowError(
        "answer", f"is {answer!r}", f"give the index (0 to {len(choices) - 1}) or the exact text of the right choice"
    )
