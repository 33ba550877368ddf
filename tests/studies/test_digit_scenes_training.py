from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from language import packed_logits
from network import build_model
from optimizer import MixedOptimizer, orthogonalize
from packing import IGNORE, PACKED, pack
from processor import BOS, IMAGE, USER, VOCABULARY
from questions import TASKS
from scans import scan_pool
from scenes import marks_of, paint, random_scene, to_pixel_values


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_model().eval()


@torch.no_grad()
def test_packed_questions_get_the_logits_of_a_plain_forward(model):
    rng = np.random.default_rng(2)
    scenes = [random_scene(rng) for _ in range(2)]
    pixels = to_pixel_values(paint(2, marks_of(scenes), scan_pool("train"), rng))
    packed = pack(scenes, dict.fromkeys(TASKS, 1.0), 2, 1, rng)
    features = model.model.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
    model.model.language_model.set_attn_implementation(PACKED)
    logits = packed_logits(model, model.model.multi_modal_projector(features), packed)
    model.model.language_model.set_attn_implementation("sdpa")
    opening = [VOCABULARY[BOS], VOCABULARY[USER], *[VOCABULARY[IMAGE]] * 144]
    supervised, start = packed.target != IGNORE, 0
    for scene in range(2):
        for number in range(int(packed.question[scene].max()) + 1):
            inside = packed.question[scene] == number
            ids = torch.tensor([opening + packed.ids[scene][inside].tolist()])
            plain = model(input_ids=ids, pixel_values=pixels[scene : scene + 1]).logits[0, len(opening) :]
            wanted = plain[supervised[scene][inside]]
            order = (inside & supervised[scene]).nonzero()[:, 0]
            rank = supervised[scene].cumsum(0)[order] - 1 + start
            torch.testing.assert_close(logits[rank], wanted, atol=1e-4, rtol=1e-4)
        start += int(supervised[scene].sum())


@torch.no_grad()
def test_hiding_the_image_changes_hidden_questions_only(model):
    rng = np.random.default_rng(2)
    scenes = [random_scene(rng)]
    packed = pack(scenes, {"where": 1.0, "digit_of": 1.0}, 2, 1, rng, hide=1.0)
    visual = torch.randn(1, 144, 128, generator=torch.Generator().manual_seed(0))
    model.model.language_model.set_attn_implementation(PACKED)
    hidden = packed_logits(model, visual, packed)
    seen = packed_logits(model, visual, dataclasses.replace(packed, hidden=torch.zeros_like(packed.hidden)))
    is_where = packed.task[packed.target != IGNORE] == 0
    assert torch.equal(hidden[is_where], seen[is_where])
    assert ((hidden - seen)[~is_where].abs().amax(-1) > 1e-4).all()


def test_orthogonalize_levels_the_singular_values():
    stack = torch.randn(3, 64, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(stack))
    assert values.min() > 0.5
    assert values.max() < 1.5


def test_optimizer_fits_and_keeps_the_working_copy_rounded():
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 16)
    x, target = torch.randn(64, 16).bfloat16(), torch.randn(64, 16).bfloat16()
    optimizer = MixedOptimizer([layer], adam_rate=1e-2, muon_rate=1e-2)
    losses = []
    for _ in range(60):
        loss = (layer(x) - target).float().square().mean()
        loss.backward()
        optimizer.step(1.0)
        losses.append(loss.item())
    assert layer.weight.dtype == torch.bfloat16
    assert losses[-1] < 0.8 * losses[0]
