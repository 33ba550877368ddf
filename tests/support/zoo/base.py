"""What the families of the zoo share: sizes, ids, prompts, and the model's finish."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from support.reference import MaskedReference
from torch import Tensor

PAD, START, END, IMAGE, VIDEO, BEFORE, AFTER, WORDS, VOCAB = 0, 1, 2, 5, 6, 7, 8, 10, 128
"""Ids: below WORDS are special ones, which no random prompt holds and no random model generates."""
LAYERS = 6
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 2048,
    "pad_token_id": PAD,
    "bos_token_id": START,
    "eos_token_id": None,
    "initializer_range": 0.12,
    "tie_word_embeddings": False,
}
TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
CLIP = {"model_type": "clip_vision_model", **TOWER, "image_size": 16, "patch_size": 4, "projection_dim": 32}
SIGLIP = {"model_type": "siglip_vision_model", **TOWER, "image_size": 16, "patch_size": 4}

Plan = list[list[int]]
PLAN: Plan = [[0, 1], [2]]
"""For each sample of the batch, its images (or videos) by index: two; one, and so left padding."""


@dataclass
class Zoo:
    """A model, a batch, and the ids that stand for visual tokens in it."""

    model: Any
    inputs: dict[str, Tensor]
    placeholders: tuple[int, ...] = (IMAGE,)

    @property
    def visual(self) -> Tensor:
        return torch.isin(self.inputs["input_ids"], torch.tensor(self.placeholders))

    @property
    def unbounded(self) -> list[int]:
        """The layers that cache every token, having no window."""
        config = self.model.config.get_text_config()
        kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        return [i for i, kind in enumerate(kinds) if kind == "full_attention"]


@dataclass(frozen=True)
class Row:
    """A family, with one kind of input, in the contract suite.

    Attributes:
        build: Makes the model and a batch: `build(plan=PLAN, seed=0)`.
        core: Whether it goes through every schedule, and through short runs of the suite.
        inputs: "image" or "video".
        reference: The class of the reference that its answers are compared with.
        modes: Whether it goes through every mode of generation.
        without: Modes that do not apply, each with a mark that skips it and says why.
    """

    build: Callable[..., Zoo]
    core: bool = False
    inputs: str = "image"
    reference: type[MaskedReference] = MaskedReference
    modes: bool = False
    without: Mapping[str, pytest.MarkDecorator] = field(default_factory=dict)


def noise(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(plan: Plan) -> int:
    """How many images a plan shows."""
    return sum(map(len, plan))


def prompts(
    tokens: list[int],
    plan: Plan,
    before: list[int] | None = None,
    after: list[int] | None = None,
    placeholder: int = IMAGE,
) -> dict[str, Tensor]:
    """Left-padded ids: for each sample, text, then its images (by index into `tokens`) with text between, then text.

    Later samples have more text, so that the first one, which loses the most tokens, needs fillers beyond its padding.
    """
    generator = torch.Generator().manual_seed(0)

    def words(n: int) -> list[int]:
        return torch.randint(WORDS, VOCAB, (n,), generator=generator).tolist()

    rows = []
    for number, images in enumerate(plan):
        row = [START, *words(3 + 20 * number)]
        for i in images:
            row += [*(before or []), *[placeholder] * tokens[i], *(after or []), *words(2 + number)]
        rows.append(row + words(4))
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(r)) + r for r in rows])
    mask = torch.tensor([[0] * (length - len(r)) + [1] * len(r) for r in rows])
    return {"input_ids": ids, "attention_mask": mask}


def finish(model: Any) -> Any:
    """Sharpen the attention and fill what starts at zero, so that errors show; never generate a special id."""
    model = model.float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(2.0)
            elif "q_norm" in name or "k_norm" in name:
                weight.add_(1.0)  # the scale is the weight in some families, 1 + weight in others
            elif weight.ndim > 1 and not weight.any():
                weight.copy_(0.2 * noise(*weight.shape))  # else Gemma's projector makes all visual tokens alike
    model.generation_config.pad_token_id = PAD
    model.generation_config.eos_token_id = END
    model.generation_config.suppress_tokens = list(range(WORDS))
    return model
