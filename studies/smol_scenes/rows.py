"""Writes scenes and questions as JSONL rows with lossy WebP images."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from asking import ASKED, HELD_OUT, TASKS, Question, ask
from pictures import Scene, paint, random_scene
from scans import scan_pool
from scenes import encode_webp

QUALITY = 90
SIZES = {"calibration": 64, "validation": 128, "test": 350}
"""Scenes of each file; two questions each."""
_SEEDS = {"calibration": 21, "validation": 22, "test": 23}


def _questions(scene: Scene, asked: Counter[str], rng: np.random.Generator) -> list[Question]:
    """Two questions of the types asked least so far: one in a wording of the training, one in a wording held out."""
    order = sorted(rng.permutation(list(TASKS)).tolist(), key=lambda task: asked[task])
    wordings = [ASKED, HELD_OUT] if rng.random() < 0.5 else [HELD_OUT, ASKED]
    found: list[Question] = []
    for task in order:
        question = ask(scene, task, wordings[len(found)], rng)
        if question is not None:
            found.append(question)
        if len(found) == 2:
            break
    asked.update(question.task for question in found)
    return found


def write_rows(split: str, output: Path) -> Path:
    """Draw the scenes of a split and write `output`/SPLIT.jsonl and `output`/images/SPLIT/*.webp.

    Row keys: image, prompt, answers, task, id, group (the scene), wording (trained or held-out).
    """
    rng, pool = np.random.default_rng(_SEEDS[split]), scan_pool(split)
    folder = output / "images" / split
    folder.mkdir(parents=True, exist_ok=True)
    written: list[dict[str, Any]] = []
    asked: Counter[str] = Counter()
    for number in range(SIZES[split]):
        scene = random_scene(rng)
        group = f"{split}-{number:05d}"
        (folder / f"{group}.webp").write_bytes(encode_webp(paint([scene], pool, rng)[0][0], QUALITY))
        for turn, question in enumerate(_questions(scene, asked, rng)):
            written.append(
                {
                    "image": f"images/{split}/{group}.webp",
                    "prompt": question.prompt,
                    "answers": [question.answer],
                    "task": question.task,
                    "id": f"{group}-{turn}",
                    "group": group,
                    "wording": "trained" if question.wording in ASKED else "held-out",
                }
            )
    path = output / f"{split}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in written))
    return path
