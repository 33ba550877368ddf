"""Videos as frames: what a processor is given of them, and the whole way through those that take videos."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.checkpoints import CHECKPOINTS

import autoprune
from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.evaluate.encoding import encode, model_inputs
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
from autoprune.models.loading import load_model

WIDTH, HEIGHT, FRAMES = 48, 32, 6
TOKENS = (WIDTH // 8) * (HEIGHT // 8) // 2  # of an image: patches of 4, merged 2 x 2; scaled to at most 32 x 32 pixels


@pytest.fixture
def rows(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "v").mkdir()
    for i in range(FRAMES):
        pixels = generator.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "v" / f"{i}.png")
    given = [
        {"video": "v", "prompt": "how many dots"},
        {"image": "v/0.png", "prompt": "what color"},
        {"video": [f"v/{i}.png" for i in range(4)], "prompt": "see <video> what color", "answers": ["red"]},
        {"image": "v/1.png", "video": "v", "prompt": "<image> is in <video>", "choices": ["yes", "no"], "answer": "A"},
        {"video": "v", "prompt": "dots", "choices": ["yes", "no", "red"], "answer": "A"},
        {"prompt": "what color"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    return load_samples(path)


def test_a_processor_is_given_the_frames_as_they_are(rows):
    class Processor(SimpleNamespace):
        def apply_chat_template(self, messages, **_):
            pieces = [piece for message in messages for piece in message["content"]]
            return "".join(piece.get("text", f"<{piece['type']}>") for piece in pieces)

        def __call__(self, **given):
            self.given = given
            return {"input_ids": torch.zeros(len(given["text"]), 1)}

    processor = Processor(chat_template="x", video_processor=object(), tokenizer=SimpleNamespace(bos_token=None))
    encode(processor, rows[2:4])
    given = processor.given
    assert given["text"] == ["see <video> what color", "<image> is in <video>"]
    assert [len(frames) for frames in given["videos"]] == [4, FRAMES]
    assert [len(images) for images in given["images"]] == [0, 1]
    assert given["do_sample_frames"] is False
    assert given["videos"][0][3].tobytes() == rows[0].videos[0].frames[3].open().tobytes()


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl"])
def test_verdicts_are_those_of_generating_and_all_video_tokens_are_visual(name, rows, tmp_path):
    pytest.importorskip("torchvision", reason="processors of videos need torchvision")
    loaded = load_model(CHECKPOINTS[name].save(tmp_path / "model"))
    schedule = presets.for_depth("himap", loaded.config.get_text_config().num_hidden_layers)
    with autoprune.apply(loaded.model, schedule) as patch, torch.no_grad():
        loaded.model(**model_inputs(loaded, rows[:1]))
    assert patch.report.visual_tokens[0].tolist() == [FRAMES // 2 * TOKENS]  # two frames make one
    evaluator = Evaluator(loaded, rows, batch_size=4, criteria=[stage.criterion for stage in schedule.stages])
    found, slow = evaluator.evaluate(schedule), generate_and_score(loaded, rows, schedule, 4)
    assert [(r.text, r.correct, r.flops) for r in found] == [(r.text, r.correct, r.flops) for r in slow]
    assert [counts.visual for counts in evaluator.prompts] == [
        3 * TOKENS,
        TOKENS,
        2 * TOKENS,
        4 * TOKENS,
        3 * TOKENS,
        0,
    ]
