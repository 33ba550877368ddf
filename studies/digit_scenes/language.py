"""Stage 2: projector and text model learn to answer, on cached features of the finished tower."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from network import VISUAL_TOKENS
from optimizer import MixedOptimizer, warm_then_decay
from packing import IGNORE, PACKED, Packed, pack
from processor import BOS, USER, VOCABULARY
from questions import TASKS, Scene
from scans import scan_pool
from scenes import marks_of, paint, random_scene, through_webp, to_pixel_values
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

SCENES = 8000
_BATCH = 16
_OPENING = [VOCABULARY[BOS], VOCABULARY[USER]]


@dataclass(frozen=True)
class Phase:
    """Steps in which the same tasks are asked, in the short form or in the chat form."""

    steps: int
    weights: dict[str, float]
    chat: bool
    bins: int


_SINGLE = {
    "digit_of": 1.5,
    "color_of": 1.5,
    "where": 1.5,
    "count": 0.4,
    "exist": 1.0,
    "larger": 1.0,
    "sum": 1.0,
    "extreme": 1.0,
}
_CHAINED = {"successor": 1.5, "side": 1.5, "side_color": 1.5}
_LONG = {"larger_side": 1.5, "successor_side": 2.0, "read": 1.5}
PHASES = (
    Phase(500, _SINGLE | {"successor": 1.0, "side": 1.0, "side_color": 1.0}, chat=False, bins=6),
    Phase(1100, {name: 0.7 * w for name, w in _SINGLE.items()} | _CHAINED | _LONG, chat=False, bins=6),
    Phase(1200, {name: 0.7 * w for name, w in _SINGLE.items()} | _CHAINED | _LONG, chat=True, bins=8),
)
"""Retrieval comes first, chains next; the suffix that separates key word and answer comes last."""


@torch.no_grad()
def cached_features(
    model: LlavaForConditionalGeneration, split: str, count: int, rng: np.random.Generator
) -> tuple[Tensor, list[Scene]]:
    """Draw `count` scenes: tower features [count, 144, width] in bfloat16, and what is in the scenes."""
    pool, features, scenes = scan_pool(split), [], []
    tower = model.model.vision_tower
    for _ in range(0, count, 50):
        batch = [random_scene(rng) for _ in range(50)]
        images = through_webp(paint(50, marks_of(batch), pool, rng), rng)
        hidden = tower(pixel_values=to_pixel_values(images).to(tower.dtype)).last_hidden_state
        features.append(hidden[:, 1:].bfloat16())
        scenes += batch
    return torch.cat(features), scenes


def packed_logits(model: LlavaForConditionalGeneration, features: Tensor, packed: Packed) -> Tensor:
    """Logits at the supervised tokens, float32 [tokens, vocabulary]."""
    text, embed = model.model.language_model, model.get_input_embeddings()
    rows = len(features)
    opening = embed(torch.tensor(_OPENING)).expand(rows, -1, -1)
    embeddings = torch.cat([opening, model.model.multi_modal_projector(features), embed(packed.ids)], 1)
    start = len(_OPENING) + VISUAL_TOKENS
    positions = torch.cat([torch.arange(start).expand(rows, -1), start + packed.offset], 1)
    hidden = text(
        inputs_embeds=embeddings,
        position_ids=positions,
        attention_mask=packed.mask(embeddings.dtype),
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden[:, start:][packed.target != IGNORE]).float()


@torch.no_grad()
def _accuracy(model: LlavaForConditionalGeneration, features: Tensor, packed: Packed, tasks: list[str]) -> str:
    supervised = packed.target != IGNORE
    right = (packed_logits(model, features, packed).argmax(-1) == packed.target[supervised]).float()
    task = packed.task[supervised]
    parts = " ".join(f"{name} {right[task == index].mean():.2f}" for index, name in enumerate(tasks))
    return f"tokens {right.mean():.4f} | {parts}"


def train_language(
    model: LlavaForConditionalGeneration,
    seed: int,
    phases: tuple[Phase, ...] = PHASES,
    scenes: int = SCENES,
    milestone: Callable[[int], None] = lambda step: None,
) -> None:
    """Train projector and text model in place; `milestone` is called with the step every 250 steps of a chat phase."""
    rng = np.random.default_rng([seed, 2])
    features, objects = cached_features(model, "train", scenes, rng)
    held_features, held_objects = cached_features(model, "validation", 100, rng)
    text = model.model.language_model
    text.set_attn_implementation(PACKED)
    optimizer = MixedOptimizer([text, model.model.multi_modal_projector], adam_rate=2e-3, muon_rate=1e-2)
    model.tie_weights()
    total, step = sum(phase.steps for phase in phases), 0
    for phase in phases:
        held = pack(held_objects, dict.fromkeys(phase.weights, 1.0), phase.bins, phase.chat, np.random.default_rng(3))
        for _ in range(phase.steps):
            chosen = rng.integers(len(objects), size=_BATCH)
            packed = pack([objects[index] for index in chosen], phase.weights, phase.bins, phase.chat, rng)
            logits = packed_logits(model, features[chosen], packed)
            loss = F.cross_entropy(logits, packed.target[packed.target != IGNORE])
            loss.backward()
            optimizer.step(warm_then_decay(step, total, warmup=60, constant=0.55))
            step += 1
            if step % 50 == 0:
                print(f"language step {step} loss {loss.item():.3f}", flush=True)
            if step % 100 == 0:
                print(f"    {_accuracy(model, held_features, held, list(phase.weights))}", flush=True)
            if phase.chat and step % 250 == 0:
                milestone(step)
    text.set_attn_implementation("sdpa")


assert set(_SINGLE) | set(_CHAINED) | set(_LONG) == set(TASKS)
