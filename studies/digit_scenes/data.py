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


def rows_name(split: str, seed: int) -> str:
    """Name of the data file, and first part of every id and image of it: seeds other than 0 are named."""
    return f"{split}-seed{seed}" if seed else split


def check_unwritten(split: str, seed: int, output: Path) -> None:
    """Refuse a place where rows of this split and seed are already.

    Raises:
        FileExistsError: their file or folder of images exists.
    """
    name = rows_name(split, seed)
    for path in (output / f"{name}.jsonl", output / "images" / name):
        if path.exists():
            raise FileExistsError(
                f"{path} exists and is not overwritten: choose another --seed or --output, or remove it"
            )


def write_rows(split: str, scenes: int, per_scene: int, seed: int, output: Path) -> Path:
    """Draw scenes of one split and write `output`/NAME.jsonl and `output`/images/NAME/*.webp.

    NAME is the split, with the seed unless it is 0; so rows of different seeds share no id, group or image. Row keys:
    image, prompt, answers, task, id, group (the scene). The same seed draws the same rows.
    """
    rng, pool = np.random.default_rng([seed, _SEEDS[split]]), scan_pool(split)
    name = rows_name(split, seed)
    folder = output / "images" / name
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    asked: Counter[str] = Counter()
    for number in range(scenes):
        scene = random_scene(rng)
        group = f"{name}-{number:05d}"
        (folder / f"{group}.webp").write_bytes(encode_webp(paint(1, marks_of([scene]), pool, rng)[0], QUALITY))
        for turn, question in enumerate(_questions_for(scene, per_scene, asked, rng)):
            rows.append(
                {
                    "image": f"images/{name}/{group}.webp",
                    "prompt": question.prompt,
                    "answers": [question.answer],
                    "task": question.task,
                    "id": f"{group}-{turn}",
                    "group": group,
                }
            )
    path = output / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
