from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoProcessor

from autoprune.data.samples import load_samples
from autoprune.evaluate.rendering import render

FILES = {"calibration": 256, "validation": 512, "test": 1000}
DIGESTS = {"calibration": "43f9a428c493e44f", "validation": "14f495a7ab89874c", "test": "eb2f2e7a6a363525"}
"""Results in the ledgers of studies stand under these; another digest makes all of them unreachable."""
PROMPTS = {"calibration": "fc01e1edac066bd7", "validation": "d76acdb5a55c686b", "test": "6a837f6b170f217a"}


def _rows(study: Path, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (study / f"{split}.jsonl").read_text().splitlines()]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("split", FILES)
def test_rows_are_complete(study: Path, split: str):
    rows = _rows(study, split)
    assert len(rows) == FILES[split]
    assert len({row["id"] for row in rows}) == len(rows)
    assert len({row["task"] for row in rows}) >= 8
    for row in rows:
        assert set(row) == {"image", "prompt", "answers", "task", "id", "group"}
        assert row["answers"]
        assert (study / row["image"]).is_file()
    if split == "test":
        assert len({row["group"] for row in rows}) >= 400


@pytest.mark.parametrize("split", FILES)
def test_rows_and_what_the_model_sees_of_them_stay_as_they_were_measured(study: Path, split: str):
    processor = AutoProcessor.from_pretrained(study / "model")
    data = load_samples(study / f"{split}.jsonl")
    prompts = "".join(render(processor, sample) for sample in data)
    assert data.digest.startswith(DIGESTS[split])
    assert hashlib.sha256(prompts.encode()).hexdigest().startswith(PROMPTS[split])


def test_images_are_lossy_webp_of_the_models_size(study: Path):
    row = _rows(study, "test")[0]
    data = (study / row["image"]).read_bytes()
    assert data[:4] == b"RIFF"
    assert data[8:16] == b"WEBPVP8 "
    assert Image.open(study / row["image"]).size == (192, 192)


def test_files_are_small(study: Path):
    assert _bytes(study / "model") <= 8 * 2**20
    assert _bytes(study / "images") + sum((study / f"{split}.jsonl").stat().st_size for split in FILES) <= 12 * 2**20


def test_weights_are_bfloat16(study: Path):
    with safe_open(study / "model" / "model.safetensors", "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118


def test_an_image_is_144_tokens_and_a_left_padded_batch_answers_as_single_rows_do(study: Path):
    processor = AutoProcessor.from_pretrained(study / "model")
    model = AutoModelForImageTextToText.from_pretrained(study / "model", dtype=torch.float32).eval()
    by_task = {row["task"]: row for row in _rows(study, "validation")}
    rows = [by_task["read"], by_task["where"], by_task["larger_successor"]]

    def answer(chosen: list[dict[str, Any]]) -> list[str]:
        chats = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row["prompt"]}]}]
            for row in chosen
        ]
        texts = processor.apply_chat_template(chats, add_generation_prompt=True)
        assert all(text.endswith("ASSISTANT:") for text in texts)
        images = [Image.open(study / row["image"]).convert("RGB") for row in chosen]
        inputs = processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt")
        assert (inputs["input_ids"] == model.config.image_token_id).sum(1).tolist() == [144] * len(chosen)
        assert processor.tokenizer.unk_token_id not in inputs["input_ids"]
        generated = model.generate(**inputs)[:, inputs["input_ids"].shape[1] :]
        assert all(processor.tokenizer.eos_token_id in row for row in generated)
        return processor.batch_decode(generated, skip_special_tokens=True)

    assert answer(rows) == [text for row in rows for text in answer([row])]
