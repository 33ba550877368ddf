"""Stage 2: projector and text model learn to answer, on cached features of the finished tower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from network import VISUAL_TOKENS, WIDTH
from optimizer import MixedOptimizer
from packing import IGNORE, PACKED, Packed, pack
from processor import BOS, USER, VOCABULARY
from questions import Scene
from scans import scan_pool
from scenes import GRID, marks_of, paint, random_scene, through_webp, to_pixel_values
from torch import Tensor, nn
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
        decay: share of the learning rate that is gone, linearly, by the end of the phase.
        hide: share of questions that have to do without the image in the deep layers.
    """

    steps: int
    weights: dict[str, float]
    chat: float
    bins: int
    decay: float = 0.0
    hide: float = 0.0


class Stage:
    """Phases that share one draw of scenes and one optimizer.

    Args:
        phases: run one after the other.
        position: weight of a loss that asks the projector's outputs for their row and column.
    """

    def __init__(self, *phases: Phase, position: float = 0.0) -> None:
        self.phases, self.position = phases, position


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
_PLACED = {"successor": 1.0} | _BESIDE | {"larger_side": 1.5, "successor_side": 1.5, "read_across": 1.5}
_FINAL = {
    "digit_of": 0.5,
    "color_of": 0.5,
    "where": 1.5,
    "count": 0.5,
    "exist": 0.5,
    "larger": 0.5,
    "sum": 0.8,
    "extreme": 0.5,
    "successor": 0.7,
    "offset": 1.0,
    "sum_color": 1.2,
    "larger_successor": 1.2,
    "successor_where": 1.5,
    "two_chains": 1.2,
    "read": 1.0,
    "read_colors": 1.2,
}
STAGES = (
    Stage(
        Phase(500, _SIMPLE | {"successor": 1.0} | _BESIDE, chat=0, bins=6),
        Phase(250, _SIMPLE | _PLACED, chat=0, bins=6),
    ),
    Stage(
        Phase(300, _SIMPLE | {"color_of": 2.0, "successor": 1.0}, chat=0, bins=6),
        Phase(600, _SIMPLE | _PLACED, chat=0.5, bins=7),
        Phase(100, _SIMPLE | _PLACED, chat=1, bins=8, decay=1 / 9),
    ),
    Stage(
        Phase(500, _SIMPLE | _PLACED | {"side": 2.5, "side_color": 2.5}, chat=0.5, bins=7),
        position=0.3,
    ),
    Stage(
        Phase(400, _FINAL, chat=0.5, bins=7),
        Phase(100, _FINAL, chat=1, bins=8, decay=1 / 7),
        position=0.3,
    ),
    Stage(
        Phase(600, _FINAL, chat=1, bins=8, decay=1, hide=0.5),
        position=0.3,
    ),
)
"""Retrieval has to be learned before chains, and the key word at the end of the prompt before the suffix that separates
key word and answer. Left to the answers alone the projector drops where a digit stands: the later stages ask for it.
The last stage asks half of the questions without the image in the deep layers, which large models hardly use either.
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


def packed_logits(model: LlavaForConditionalGeneration, visual: Tensor, packed: Packed) -> Tensor:
    """Logits at the supervised tokens, float32 [tokens, vocabulary]."""
    text, embed = model.model.language_model, model.get_input_embeddings()
    rows = len(visual)
    opening = embed(torch.tensor(_OPENING)).expand(rows, -1, -1)
    embeddings = torch.cat([opening, visual, embed(packed.ids)], 1)
    start = len(_OPENING) + VISUAL_TOKENS
    positions = torch.cat([torch.arange(start).expand(rows, -1), start + packed.offset], 1)
    hidden = text(
        inputs_embeds=embeddings,
        position_ids=positions,
        attention_mask=packed.mask(embeddings.dtype),
        hidden=packed.hidden,
        use_cache=False,
    ).last_hidden_state
    return model.lm_head(hidden[:, start:][packed.target != IGNORE]).float()


@torch.no_grad()
def _accuracy(model: LlavaForConditionalGeneration, features: Tensor, packed: Packed, tasks: list[str]) -> str:
    supervised = packed.target != IGNORE
    visual = model.model.multi_modal_projector(features)
    right = (packed_logits(model, visual, packed).argmax(-1) == packed.target[supervised]).float()
    task = packed.task[supervised]
    parts = " ".join(f"{name} {right[task == index].mean():.2f}" for index, name in enumerate(tasks))
    return f"tokens {right.mean():.4f} | {parts}"


class PositionHeads(nn.Module):
    """Cross-entropy of the row and the column of every visual token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.Linear(width, 2 * GRID)
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)

    def forward(self, visual: Tensor) -> Tensor:
        logits = self.heads(visual).float().unflatten(-1, (2, GRID)).permute(0, 3, 1, 2)
        place = torch.arange(VISUAL_TOKENS)
        labels = torch.stack([place // GRID, place % GRID], -1).expand(len(visual), -1, -1)
        return F.cross_entropy(logits, labels)


def train_language(
    model: LlavaForConditionalGeneration,
    seed: int,
    stages: Sequence[tuple[int, Stage]] = tuple(enumerate(STAGES)),
    scenes: int = SCENES,
    milestone: Callable[[str], None] = lambda where: None,
) -> None:
    """Train projector and text model in place; `milestone` is called every 250 steps with a word on where."""
    text, projector = model.model.language_model, model.model.multi_modal_projector
    text.set_attn_implementation(PACKED)
    for number, stage in stages:
        rng = np.random.default_rng([seed, 2 + number])
        features, objects = cached_features(model, "train", scenes, rng)
        held = cached_features(model, "validation", 100, rng)
        positions = PositionHeads(WIDTH)
        modules = [text, projector, positions] if stage.position else [text, projector]
        optimizer = MixedOptimizer(modules, adam_rate=2e-3, muon_rate=1e-2)
        model.tie_weights()
        total = 0
        for phase in stage.phases:
            names = list(phase.weights)
            probe = pack(held[1], dict.fromkeys(names, 1.0), phase.bins, phase.chat, np.random.default_rng(3))
            for step in range(phase.steps):
                chosen = rng.integers(len(objects), size=_BATCH)
                packed = pack(
                    [objects[index] for index in chosen], phase.weights, phase.bins, phase.chat, rng, phase.hide
                )
                visual = projector(features[chosen])
                logits = packed_logits(model, visual, packed)
                loss = F.cross_entropy(logits, packed.target[packed.target != IGNORE])
                if stage.position:
                    loss = loss + stage.position * positions(visual)
                loss.backward()
                optimizer.step(min(1.0, (total + 1) / _WARMUP) * (1 - phase.decay * step / phase.steps))
                total += 1
                if total % 50 == 0:
                    print(f"stage {number} step {total} loss {loss.item():.3f}", flush=True)
                if total % 100 == 0:
                    print(f"    {_accuracy(model, held[0], probe, names)}", flush=True)
                if total % 250 == 0:
                    milestone(f"stage {number} step {total}")
    text.set_attn_implementation("sdpa")
