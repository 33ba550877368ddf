"""Rows as a user has them: one image and two, portrait and landscape, with choices, with answers, with neither."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"wide": (40, 24), "tall": (24, 40)}
QUESTIONS = [
    {"images": ["wide"], "prompt": "what color is the left one", "answers": ["red", "blue"]},
    {"images": ["tall"], "prompt": "how many dots are there"},
    {"images": ["wide", "tall"], "prompt": "which side is brighter"},
    {"images": ["tall"], "prompt": "read the number", "choices": ["1", "2", "3"], "answer": 1},
    {"images": ["tall", "wide"], "prompt": "<image> and <image> are there dots", "choices": ["yes", "no"], "answer": 0},
    {"images": ["wide"], "prompt": "how many red and green dots"},
]


def save_rows(folder: Path, name: str, seed: int) -> Path:
    """Writes a data file of six rows and their images: noise on plain ground, which makes tokens that no row needs."""
    generator = np.random.default_rng(seed)
    rows = []
    for number, question in enumerate(QUESTIONS):
        files = [f"{name}-{number}-{shape}.png" for shape in question["images"]]
        for file, shape in zip(files, question["images"], strict=True):
            width, height = SIZES[shape]
            pixels = np.full((height, width, 3), 200, dtype=np.uint8)
            pixels[4:16, 4:16] = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / file)
        rows.append({**question, "images": files, "task": f"t{number % 2}"})
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
