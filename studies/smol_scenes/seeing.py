"""Stage 1: tower and projector learn what every patch shows, in the decoder's own words.

The target of a patch is the sum of the word embeddings of colour, kind and place of the thing that it shows, as LLaVA
describes a picture to a language model, only patch by patch; so no pass of the decoder is needed. Heads that name
colour and kind keep the tower from forgetting what the sum hides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from optimizer import MixedOptimizer, warm_then_decay
from pictures import COLORS, KINDS, Scene, paint, random_scene
from scans import ScanPool, scan_pool
from scenes import through_webp, to_pixel_values
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, PreTrainedTokenizerBase
from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

_BATCH = 24
_EMPTY = 0.1  # weight of a patch that shows nothing
_NOTHING = "empty"


class PatchHeads(nn.Module):
    """Kind and colour of a patch, the last of each being none."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kind, self.color = nn.Linear(width, len(KINDS) + 1), nn.Linear(width, len(COLORS) + 1)


class Words:
    """What a visual token should be: sums of the decoder's word embeddings.

    Args:
        embedding: float32 [vocabulary, width].
        tokenizer: Of the decoder.
    """

    def __init__(self, embedding: Tensor, tokenizer: PreTrainedTokenizerBase) -> None:
        self._embedding, self._tokenizer = embedding, tokenizer
        self.scale = float(embedding.norm(dim=-1).mean())

    def of(self, *words: str) -> Tensor:
        """Float32 [width], as long as an embedding is on average."""
        total = sum(self._unit(word) for word in words)
        assert isinstance(total, Tensor)
        return total / total.norm() * self.scale

    def _unit(self, word: str) -> Tensor:
        text = word if word.isdigit() else f" {word}"
        tokens = self._tokenizer(text, add_special_tokens=False).input_ids
        vector = self._embedding[tokens].sum(0)
        return vector / vector.norm()

    def targets(self, scenes: list[Scene], owners: NDArray[np.int64]) -> Tensor:
        """Float32 [scenes, patches, width]."""
        nothing = self.of(_NOTHING)
        rows = []
        for scene, owner in zip(scenes, owners, strict=True):
            table = [self.of(thing.color, thing.kind, *thing.place.split()) for thing in scene]
            rows.append(torch.stack([*table, nothing])[torch.from_numpy(owner)])
        return torch.stack(rows)


def draw(
    count: int, pool: ScanPool, rng: np.random.Generator
) -> tuple[list[Scene], NDArray[np.uint8], NDArray[np.int64]]:
    """Scenes, their pictures after lossy compression, and whose every patch is."""
    scenes = [random_scene(rng) for _ in range(count)]
    images, owners = paint(scenes, pool, rng)
    return scenes, through_webp(images, rng), owners


def _labels(scenes: list[Scene], owners: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    kinds, colors = list(KINDS), list(COLORS)
    both = [
        [[kinds.index(thing.kind) for thing in scene] + [len(kinds)] for scene in scenes],
        [[colors.index(thing.color) for thing in scene] + [len(colors)] for scene in scenes],
    ]
    kind, color = (
        torch.stack([torch.tensor(row)[torch.from_numpy(owner)] for row, owner in zip(rows, owners, strict=True)])
        for rows in both
    )
    return kind, color


def _mean(losses: Tensor, weight: Tensor) -> Tensor:
    return (losses * weight).sum() / weight.sum()


def train_eyes(
    tower: CLIPVisionModel,
    projector: LlavaMultiModalProjector,
    words: Words,
    seed: int,
    steps: int,
    milestone: Callable[[str], None],
) -> None:
    """Train tower and projector in place; they leave as bfloat16."""
    rng, pool = np.random.default_rng([seed, 1]), scan_pool("train")
    heads = PatchHeads(tower.config.hidden_size)
    tower.set_attn_implementation("eager")  # at this size faster backwards than the fused CPU kernel
    optimizer = MixedOptimizer([tower, projector, heads], adam_rate=1.5e-3, weight_decay=0.05)
    held = draw(48, scan_pool("validation"), np.random.default_rng([seed, 2]))
    for step in range(steps):
        scenes, images, owners = draw(_BATCH, pool, rng)
        patches = tower(pixel_values=to_pixel_values(images).bfloat16()).last_hidden_state[:, 1:]
        kind, color = _labels(scenes, owners)
        weight = torch.where(torch.from_numpy(owners) >= 0, 1.0, _EMPTY)
        loss = _mean(F.cross_entropy(heads.kind(patches).float().mT, kind, reduction="none"), weight)
        loss = loss + 0.5 * _mean(F.cross_entropy(heads.color(patches).float().mT, color, reduction="none"), weight)
        visual = projector(patches).float() / words.scale
        target = words.targets(scenes, owners) / words.scale
        loss = loss + 2 * _mean((visual - target).square().sum(-1), weight)
        loss.backward()
        optimizer.step(warm_then_decay(step, steps, warmup=100, constant=0.3))
        if step % 100 == 99:
            milestone(f"eyes step {step + 1} loss {loss.item():.3f} {_accuracy(tower, projector, heads, words, held)}")
    tower.set_attn_implementation("sdpa")


@torch.no_grad()
def _accuracy(
    tower: CLIPVisionModel,
    projector: LlavaMultiModalProjector,
    heads: PatchHeads,
    words: Words,
    held: tuple[list[Scene], NDArray[np.uint8], NDArray[np.int64]],
) -> str:
    scenes, images, owners = held
    patches = tower(pixel_values=to_pixel_values(images).bfloat16()).last_hidden_state[:, 1:]
    kind, color = _labels(scenes, owners)
    shown = torch.from_numpy(owners) >= 0
    kinds = (heads.kind(patches).argmax(-1) == kind)[shown].float().mean()
    colors = (heads.color(patches).argmax(-1) == color)[shown].float().mean()
    near = F.cosine_similarity(projector(patches).float(), words.targets(scenes, owners), dim=-1)[shown].mean()
    return f"kind {kinds:.3f} color {colors:.3f} cosine {near:.3f}"
