"""Conversations: the messages of a row, as chat templates take them, with images and videos at their places."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["text", "image", "video"]
MARKS: dict[str, Kind] = {"<image>": "image", "<video>": "video"}
"""Marks in a text at whose place an image or a video stands."""

_MARK = re.compile(f"({'|'.join(MARKS)})")
_SOURCES = {"image": ("image", "path", "url", "bytes"), "image_url": ("image_url",), "video": ("video", "path")}
_ROLES = ("system", "developer", "user", "assistant")


@dataclass(frozen=True)
class Piece:
    """A piece of a message: a text as it was written, or the place of the next image or video of the row."""

    kind: Kind
    text: str = ""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Of whoever speaks: ``system``, ``developer``, ``user`` or ``assistant``.
        content: Its pieces, in order.
    """

    role: str
    content: tuple[Piece, ...]


@dataclass(frozen=True)
class Visual:
    """An image or a video that a message brings: `cell` is what stands there, None = the next one of the row."""

    kind: Kind
    cell: Any


def split_marks(text: str, kinds: tuple[Kind, ...] = ("image",)) -> tuple[Piece, ...]:
    """The pieces of a text, cut at the marks of these kinds; no character of it is changed."""
    parts: list[Piece] = []
    for piece in _MARK.split(text):
        if MARKS.get(piece) in kinds:
            parts.append(Piece(MARKS[piece]))
        elif parts and parts[-1].kind == "text":  # behind a mark of another kind, which is text here
            parts[-1] = Piece("text", parts[-1].text + piece)
        elif piece:
            parts.append(Piece("text", piece))
    return tuple(parts)


def parse_messages(given: Any, kinds: tuple[Kind, ...]) -> tuple[tuple[Message, ...], tuple[Visual, ...]]:
    """The messages of a row, and the images and videos they bring, in order.

    A content is a text, in which marks stand for images, or a list of pieces as OpenAI and Hugging Face write them:
    ``{"type": "text", "text": …}``, ``{"type": "image"}`` with or without its ``image``, ``path`` or ``url``,
    ``{"type": "image_url", "image_url": {"url": …}}``, ``{"type": "video", "video": …}``.

    Args:
        given: What the row holds.
        kinds: Kinds of the marks that are looked for in texts.

    Raises:
        ValueError: with what is wrong, and behind a semicolon the remedy.
    """
    if not isinstance(given, (list, tuple)) or not given:
        raise ValueError("must be a list of messages; write [{role, content}, …]")
    messages, visuals = [], []
    for number, message in enumerate(given):
        try:
            parsed, own = _message(message, kinds)
        except ValueError as error:
            raise ValueError(f"[{number}] {error}") from error
        messages.append(parsed)
        visuals += own
    if messages[-1].role == "assistant":
        raise ValueError("ends with an answer of the assistant; write it as `answers`, the model gives the next one")
    if all(message.role != "user" for message in messages):
        raise ValueError("holds no message of the user; add the question")
    return tuple(messages), tuple(visuals)


def _message(given: Any, kinds: tuple[Kind, ...]) -> tuple[Message, list[Visual]]:
    if not isinstance(given, Mapping):
        raise ValueError(f"is {type(given).__name__}; write {{role, content}}")
    keys = {key for key, value in given.items() if value is not None}
    if unknown := sorted(keys - {"role", "content"}):
        raise ValueError(f"has the key {unknown[0]!r}, which is not read; write role and content alone")
    role, content = given.get("role"), given.get("content")
    if role not in _ROLES:
        raise ValueError(f"has the role {role!r}; use {', '.join(_ROLES)}")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, (list, tuple)) or not content:
        raise ValueError("has no content; write a text, or a list of pieces")
    parts: list[Piece] = []
    visuals: list[Visual] = []
    for piece in content:
        own, visual = _pieces(piece, kinds if role == "user" else ())
        parts += own
        visuals += visual
    return Message(role, tuple(parts)), visuals


def _pieces(given: Any, kinds: tuple[Kind, ...]) -> tuple[tuple[Piece, ...], list[Visual]]:
    piece = {key: value for key, value in given.items() if value is not None} if isinstance(given, Mapping) else {}
    kind = piece.get("type")
    if kind == "text" and isinstance(piece.get("text"), str):
        parts = split_marks(piece["text"], kinds)
        return parts, [Visual(part.kind, None) for part in parts if part.kind != "text"]
    if kind not in _SOURCES:
        raise ValueError(f"holds a piece of type {kind!r}; use text, image, image_url or video")
    cells = [piece[key] for key in _SOURCES[kind] if key in piece]
    visual = Visual("video" if kind == "video" else "image", _link(cells[0]) if cells else None)
    return (Piece(visual.kind),), [visual]


def _link(cell: Any) -> Any:
    """What an ``image_url`` names, out of its object."""
    return cell["url"] if isinstance(cell, Mapping) and isinstance(cell.get("url"), str) else cell
