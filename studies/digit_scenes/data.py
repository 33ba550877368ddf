"""Writes scenes and questions as JSONL rows with lossy WebP images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from questions import TASKS, Question, Scene, ask
from scans import scan_pool
from scenes import encode_webp, marks_of, paint, random_scene

QUALITY = 90
SIZES = {"calibration": (128, 2), "validation": (256, 2), "test": (500, 2)}
"""Scenes of each committed file, and questions a scene."""

_SEEDS = {"train": 10, "calibration": 11, "validation": 12, "test": 13}


def _questions_for(scene: Scene, count: int, asked: Counter[str], rng: np.random.Generator) -> list[Question]:
    """Ask `count` questions of different tasks, those asked least so far first."""
    order = sorted(rng.permutation(list(TASKS)).tolist(), key=lambda task: asked[task])
    questions = [question for task in order if (question := ask(scene, task, rng)) is not None][:count]
    asked.update(question.task for question in questions)
    return questions


def write_rows(split: str, scenes: int, per_scene: int, seed: int, output: Path) -> Path:
    """Draw scenes of one split and write `output`/split.jsonl and `output`/images/split/*.webp.

    Row keys: image, prompt, answers, task, id, group (the scene). The same seed draws the same rows.
    """
    rng, pool = np.random.default_rng([seed, _SEEDS[split]]), scan_pool(split)
    folder = output / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    asked: Counter[str] = Counter()
    for number in range(scenes):
        scene = random_scene(rng)
        name = f"{split}-{number:05d}"
        (folder / f"{name}.webp").write_bytes(encode_webp(paint(1, marks_of([scene]), pool, rng)[0], QUALITY))
        for turn, question in enumerate(_questions_for(scene, per_scene, asked, rng)):
            rows.append(
                {
                    "image": f"images/{split}/{name}.webp",
                    "prompt": question.prompt,
                    "answers": [question.answer],
                    "task": question.task,
                    "id": f"{name}-{turn}",
                    "group": name,
                }
            )
    path = output / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
