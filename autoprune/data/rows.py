"""Rows of a data set: each becomes a `Sample`, or an error that names the field and the remedy."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from autoprune.data.images import ImageSource
from autoprune.data.messages import Kind, Message, Piece, Visual, parse_messages, split_marks
from autoprune.data.videos import VideoSource
from autoprune.errors import shortened

FIELDS = ("image", "images", "video", "prompt", "messages", "answers", "choices", "answer", "task", "id", "group")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SourceT = TypeVar("SourceT")


@dataclass(frozen=True)
class Sample:
    """One question, usually about images or videos.

    Attributes:
        id: Name of the row; its number when the data set has none.
        prompt: The question, with or without marks such as ``<image>``; empty where `messages` hold it.
        images: The images, in the order of their places.
        answers: Accepted strings; empty when the dense model's own greedy answer is the reference.
        choices: Options that are scored by their log-probability, or None.
        answer: Index of the right choice; None without `choices`.
        task: Group that results are also reported for, such as ``ocr``; None when the row names none.
        group: Samples that share it are not independent: the cluster for intervals.
        messages: The conversation, if the row holds one in place of a prompt.
        videos: The videos, in the order of their places.
    """

    id: str
    prompt: str
    images: tuple[ImageSource, ...]
    answers: tuple[str, ...]
    choices: tuple[str, ...] | None
    answer: int | None
    task: str | None
    group: str
    messages: tuple[Message, ...] = ()
    videos: tuple[VideoSource, ...] = ()

    @cached_property
    def conversation(self) -> tuple[Message, ...]:
        """What the model is asked, as messages; images and videos that a prompt does not place come before it."""
        if self.messages:
            return self.messages
        parts = split_marks(self.prompt, self._kinds)
        placed = {part.kind for part in parts}
        before = [Piece("image")] * len(self.images) + [Piece("video")] * len(self.videos)
        return (Message("user", (*(part for part in before if part.kind not in placed), *parts)),)

    @property
    def is_text_only(self) -> bool:
        """Whether it has neither images nor videos, so that nothing can be pruned."""
        return not self.images and not self.videos

    @property
    def digest(self) -> str:
        """Digest of everything that can change a result: the fields and the bytes of the images."""
        fields: dict[str, Any] = {
            "id": self.id,
            "prompt": self.prompt,
            "images": [image.sha256 for image in self.images],
            "answers": self.answers,
            "choices": self.choices,
            "answer": self.answer,
            "task": self.task,
            "group": self.group,
        }
        # Keys beyond the first ones stand only where they say something, so that digests of older rows stay.
        if self.messages:
            fields["messages"] = [[m.role, [[part.kind, part.text] for part in m.content]] for m in self.messages]
        if self.videos:
            fields["videos"] = [[frame.sha256 for frame in video.frames] for video in self.videos]
        if any(text != text.strip() for text in self._prompt_texts):
            fields["verbatim"] = True  # white space around such texts was once cut off
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    @property
    def _kinds(self) -> tuple[Kind, ...]:
        return ("image", "video") if self.videos else ("image",)

    @property
    def _prompt_texts(self) -> list[str]:
        return [part.text for part in split_marks(self.prompt, self._kinds) if part.kind == "text"]


class RowError(ValueError):
    """An error in one field of one row, with its remedy."""

    def __init__(self, field: str, message: str, remedy: str) -> None:
        message = shortened(message)
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
    kinds: tuple[Kind, ...] = ("image", "video") if "video" in given else ("image",)
    prompt, messages, places = _question(given, kinds)
    text_field, (image_field, image_cells) = "messages" if messages else "prompt", _image_cells(given)
    video_cells = [given["video"]] if "video" in given else []
    _check_places(text_field, "image", _of("image", places), len(image_cells))
    _check_places(text_field, "video", _of("video", places), len(video_cells))
    images = _sources(image_field, image_cells, _of("image", places), ImageSource.from_cell, base)
    videos = _sources("video", video_cells, _of("video", places), VideoSource.from_cell, base)
    if messages:
        messages = _before_the_question(messages, [("image", len(images)), ("video", len(videos))])
    choices, answer = _choices(given)
    return Sample(
        id=str(given.get("id", number)),
        prompt=prompt,
        images=images,
        answers=_answers(given),
        choices=choices,
        answer=answer,
        task=str(given["task"]) if "task" in given else None,
        group=str(given.get("group") or _default_group(images, videos, prompt, messages)),
        messages=messages,
        videos=videos,
    )


def _question(given: dict[str, Any], kinds: tuple[Kind, ...]) -> tuple[str, tuple[Message, ...], tuple[Visual, ...]]:
    """The prompt or the messages, and the places of images and videos in them."""
    if "messages" not in given:
        prompt = _text(given, "prompt")
        return prompt, (), tuple(Visual(p.kind, None) for p in split_marks(prompt, kinds) if p.kind != "text")
    if "prompt" in given:
        raise RowError("prompt", "and `messages` are both given", "keep one of them")
    try:
        return "", *parse_messages(given["messages"], kinds)
    except ValueError as error:
        message, _, remedy = str(error).rpartition("; ")
        raise RowError("messages", message, remedy) from error


def _of(kind: Kind, places: tuple[Visual, ...]) -> list[Any]:
    return [place.cell for place in places if place.kind == kind]


def _text(given: dict[str, Any], field: str) -> str:
    value = given.get(field)
    if value is None:
        raise RowError(
            field, "is missing", f"give every row a `{field}` or `messages`, or name its column in `columns`"
        )
    if not isinstance(value, str) or not value.strip():
        raise RowError(field, f"must be a text that is not empty, is {value!r}", "write the question as a string")
    return value


def _image_cells(given: dict[str, Any]) -> tuple[str, list[Any]]:
    """Name and cells of the field that holds the images."""
    if "image" in given and "images" in given:
        raise RowError("images", "and `image` are both given", "keep one of them")
    if "image" in given:
        return "image", [given["image"]]
    cells = given.get("images", [])
    if not isinstance(cells, (list, tuple)):
        raise RowError("images", f"must be a list, is {type(cells).__name__}", "give one image as `image`")
    return "images", list(cells)


def _check_places(field: str, kind: str, places: list[Any], cells: int) -> None:
    """Refuses a question whose places do not take the images or videos of the row one by one."""
    if places and (marks := sum(place is None for place in places)) != cells:
        raise RowError(
            field,
            f"holds {marks} <{kind}> marks for {cells} {kind}s",
            f"write one <{kind}> per {kind}, or none: the {kind}s then come before the question",
        )


def _sources(
    field: str, cells: list[Any], places: list[Any], read: Callable[[Any, Path], SourceT], base: Path
) -> tuple[SourceT, ...]:
    """Images or videos in the order of their places: what stands at a place, or the next one of the row's cells."""
    left, sources = iter(cells), []
    for cell in [next(left) if place is None else place for place in places] or cells:
        try:
            sources.append(read(cell, base))
        except ValueError as error:
            raise RowError(field, str(error), "paths are relative to the data file") from error
    return tuple(sources)


def _before_the_question(messages: tuple[Message, ...], given: list[tuple[Kind, int]]) -> tuple[Message, ...]:
    """Messages with what they do not place at the start of their only question."""
    placed = {part.kind for message in messages for part in message.content}
    parts = [Piece(kind) for kind, count in given if kind not in placed for _ in range(count)]
    asked = [number for number, message in enumerate(messages) if message.role == "user"]
    if parts and len(asked) > 1:
        raise RowError(
            "messages",
            "do not say where the images and videos of the row stand",
            'put {"type": "image"} or <image> where each one belongs',
        )
    first = messages[asked[0]]
    return tuple(Message(m.role, (*parts, *m.content)) if m is first else m for m in messages)


def _default_group(
    images: tuple[ImageSource, ...], videos: tuple[VideoSource, ...], prompt: str, messages: tuple[Message, ...]
) -> str:
    """Rows about the same images are one cluster; a row without any is one by itself, or with its own repetition."""
    frames = [frame.sha256 for video in videos for frame in video.frames]
    shown = [image.sha256 for image in images] + frames
    return hashlib.sha256("".join(shown or [prompt, repr(messages)]).encode()).hexdigest()


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
    if isinstance(answer, str) and len(answer) == 1 and answer in _LETTERS[: len(choices)]:
        return tuple(choices), _LETTERS.index(answer)
    raise RowError(
        "answer",
        f"is {answer!r}",
        f"give the index (0 to {len(choices) - 1}), the letter (A to {_LETTERS[: len(choices)][-1]}) or the exact text "
        "of the right choice",
    )
