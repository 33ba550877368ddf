"""Functions of a local task for lmms-eval and lm-eval: rows of digit_scenes, judged by exact match."""

from __future__ import annotations

from typing import Any

from PIL import Image


def to_visual(doc: dict[str, Any]) -> list[Image.Image]:
    return [Image.open(doc["image"]).convert("RGB")]


def to_text(doc: dict[str, Any], **settings: Any) -> str:
    return str(doc["prompt"])


def to_messages(doc: dict[str, Any], **settings: Any) -> list[dict[str, Any]]:
    content = [{"type": "image", "url": to_visual(doc)[0]}, {"type": "text", "text": doc["prompt"]}]
    return [{"role": "user", "content": content}]


def process(doc: dict[str, Any], answers: list[str]) -> dict[str, float]:
    return {"right": float(answers[0].strip() in doc["answers"])}
