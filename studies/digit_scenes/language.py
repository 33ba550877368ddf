"""Stage 2: projector and text model learn to answer, on cached features of the finished tower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from network import VISUAL_TOKENS
from optimizer import MixedOptimizer
from packing import IGNORE, PACKED, Packed, pack
from processor import BOS, USER, VOCABULARY
from questions import Scene
from scans import scan_pool
from scenes import marks_of, paint, random_scene, through_webp, to_pixel_values
from torch import Tensor
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

SCENES = 8000
_BATCH = 10
_WARMUP = 60
_OPENING = [VOCABULARY[BOS], VOCABULARY[USER]]


@dataclass(frozen=True)
class Phase:
    """Steps in which the same tasks are asked.

    Attributes:
        steps: optimizer steps.
        weights: tasks and how often they are asked, relative to each other.
        chat: share of questions in the chat form; the others end at their key word.
        bins: bins of tokens behind each image.
        decay: whether the learning rate falls linearly to zero over the phase.
    """

    steps: int
    weights: dict[str, float]
    chat: float
    bins: int
    decay: bool = False


_SIMPLE = {
    "digit_of": 1.0,
    "color_of": 1.0,
    "where": 1.5,
    "count": 0.4,
    "exist": 1.0,
    "larger": 0.8,
    "sum": 0.8,
    "extreme": 0.8,
}
_BESIDE = {"side": 1.5, "side_color": 1.5}
_LONG = {"larger_side": 1.5, "successor_side": 1.5, "read": 1.5}
_CHAINED = {"successor": 1.0} | _BESIDE | _LONG
STAGES = (
    (
        Phase(500, _SIMPLE | {"successor": 1.0} | _BESIDE, chat=0, bins=6),
        Phase(250, _SIMPLE | _CHAINED, chat=0, bins=6),
    ),
    (
        Phase(300, _SIMPLE | {"color_of": 2.0, "successor": 1.0}, chat=0, bins=6),
        Phase(600, _SIMPLE | _CHAINED, chat=0.5, bins=7),
        Phase(900, _SIMPLE | _CHAINED, chat=1, bins=8, decay=True),
    ),
)
"""Each stage draws its own scenes and starts its own optimizer.

Retrieval has to be learned before chains, and the key word at the end of the prompt before the suffix that separates
key word and answer.
"""


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
    stages: Sequence[tuple[int, Sequence[Phase]]] = tuple(enumerate(STAGES)),
    scenes: int = SCENES,
    milestone: Callable[[str], None] = lambda where: None,
) -> None:
    """Train projector and text model in place; `milestone` is called every 250 steps with a word on where."""
    text = model.model.language_model
    text.set_attn_implementation(PACKED)
    for number, phases in stages:
        rng = np.random.default_rng([seed, 2 + number])
        features, objects = cached_features(model, "train", scenes, rng)
        held = cached_features(model, "validation", 100, rng)
        optimizer = MixedOptimizer([text, model.model.multi_modal_projector], adam_rate=2e-3, muon_rate=1e-2)
        model.tie_weights()
        total = 0
        for phase in phases:
            names = list(phase.weights)
            probe = pack(held[1], dict.fromkeys(names, 1.0), phase.bins, phase.chat, np.random.default_rng(3))
            for step in range(phase.steps):
                chosen = rng.integers(len(objects), size=_BATCH)
                packed = pack([objects[index] for index in chosen], phase.weights, phase.bins, phase.chat, rng)
                logits = packed_logits(model, features[chosen], packed)
                loss = F.cross_entropy(logits, packed.target[packed.target != IGNORE])
                loss.backward()
                decay = 1 - step / phase.steps if phase.decay else 1.0
                optimizer.step(min(1.0, (total + 1) / _WARMUP) * decay)
                total += 1
                if total % 50 == 0:
                    print(f"stage {number} step {total} loss {loss.item():.3f}", flush=True)
                if total % 100 == 0:
                    print(f"    {_accuracy(model, held[0], probe, names)}", flush=True)
                if total % 250 == 0:
                    milestone(f"stage {number} step {total}")
    text.set_attn_implementation("sdpa")
