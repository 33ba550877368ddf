"""Accuracy of a saved model on a data file, by plain `generate()`, beside the best constant answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

_BATCH = 50


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@torch.no_grad()
def answers_of(model_folder: Path, path: Path) -> list[str]:
    """The model's greedy answer to every row of the file, computed in float32."""
    processor = AutoProcessor.from_pretrained(model_folder)
    model = AutoModelForImageTextToText.from_pretrained(model_folder, dtype=torch.float32).eval()
    rows, answers = read_rows(path), []
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        chats = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["prompt"]}]}] for row in batch
        ]
        texts = processor.apply_chat_template(chats, add_generation_prompt=True)
        images = [Image.open(path.parent / row["image"]).convert("RGB") for row in batch]
        inputs = processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt")
        generated = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        answers += processor.batch_decode(generated, skip_special_tokens=True)
    return answers


def _share(hits: Iterable[bool]) -> float:
    hits = list(hits)
    return sum(hits) / len(hits)


def accuracy_table(model_folder: Path, path: Path) -> str:
    """A Markdown table: exact match and majority answer, per task and overall."""
    rows = read_rows(path)
    right = [
        answer.strip().lower() in [accepted.lower() for accepted in row["answers"]]
        for row, answer in zip(rows, answers_of(model_folder, path), strict=True)
    ]
    lines = ["| task | rows | exact match | majority answer |", "|---|---|---|---|"]
    majority_hits = 0
    for task in dict.fromkeys(row["task"] for row in rows):
        chosen = [index for index, row in enumerate(rows) if row["task"] == task]
        common = Counter(rows[index]["answers"][0] for index in chosen).most_common(1)[0][1]
        majority_hits += common
        exact = _share(right[index] for index in chosen)
        lines.append(f"| {task} | {len(chosen)} | {exact:.3f} | {common / len(chosen):.3f} |")
    lines.append(f"| all | {len(rows)} | {_share(right):.3f} | {majority_hits / len(rows):.3f} |")
    return "\n".join(lines)
