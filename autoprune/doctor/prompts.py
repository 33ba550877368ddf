"""Prompts for a model under test: two rows of different length, alone and as one left-padded batch."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autoprune.data.rows import Sample
from autoprune.data.synthetic import synthetic_sample
from autoprune.errors import DataError
from autoprune.evaluate.encoding import encode, to_device
from autoprune.runtime import record
from autoprune.runtime.decoder import visual_token_ids

_COMPARED = 48
"""Positions of each kind, visual and text, whose logits are compared: with a large vocabulary all would fill memory."""
_ROWS = ((4, 32, 29), (5, 48, 6))
"""Words, visual tokens, words. The row with less to prune has more text, so that the other one, once pruned, is filled
up with tokens that it dropped, and not only with its padding."""
_LONG_QUESTION = (
    "Look at the image carefully before you answer. Say what is in the foreground, what is in the background, which "
    "colors it has, how many things you can count, and whether there is any text that can be read. Answer in one word."
)
_SHORT_QUESTION = "What differs?"


@dataclass(frozen=True)
class VisualPrompt:
    """Model inputs of one or more rows, and which of their tokens are visual.

    Attributes:
        inputs: What the model takes.
        visual: BoolTensor[B, S].
        marked: Whether the model finds its visual tokens by itself.
    """

    inputs: dict[str, Any]
    visual: Tensor
    marked: bool

    @property
    def length(self) -> int:
        """Positions of a row, padding included."""
        return int(self.visual.shape[1])

    @property
    def mask(self) -> Tensor | None:
        """The `visual_mask` that `apply` needs."""
        return None if self.marked else self.visual

    @cached_property
    def columns(self) -> list[int]:
        """Positions of a single row whose logits are compared."""
        visual = self.visual[0].nonzero().flatten().tolist()
        text = (~self.visual[0]).nonzero().flatten().tolist()
        return sorted({*_spread(visual), *_spread(text), self.length - 1})


@dataclass(frozen=True)
class PromptSet:
    """The prompts of a report.

    Attributes:
        rows: Each alone, without padding.
        batch: All of them, padded on the left.
        about: What they are, in words.
    """

    rows: tuple[VisualPrompt, ...]
    batch: VisualPrompt
    about: str


def questions(model: Any, processor: Any, samples: Sequence[Sample] = ()) -> PromptSet:
    """Prompts through the processor: the first two samples, with made-up ones in place of those that are missing.

    Raises:
        DataError: the processor refuses them.
    """
    one = synthetic_sample(model.config, _LONG_QUESTION)
    if samples:
        chosen = [*samples, one][:2]
        return PromptSet(*_encoded(model, processor, chosen), f"rows {' and '.join(sample.id for sample in chosen)}")
    try:
        two = synthetic_sample(model.config, _SHORT_QUESTION, images=2)
        return PromptSet(*_encoded(model, processor, [one, two]), "questions about one and about two made-up images")
    except DataError:  # some processors take one image per prompt
        two = synthetic_sample(model.config, _SHORT_QUESTION)
        return PromptSet(*_encoded(model, processor, [one, two]), "two questions about a made-up image")


def _encoded(model: Any, processor: Any, samples: list[Sample]) -> tuple[tuple[VisualPrompt, ...], VisualPrompt]:
    def prompt(chosen: list[Sample]) -> VisualPrompt:
        inputs = to_device(encode(processor, chosen), model.device)
        with torch.inference_mode(), record(model, ()) as recording:
            model(**inputs, use_cache=False, logits_to_keep=1)
        return VisualPrompt(inputs, recording.visual_mask, marked=True)

    return tuple(prompt([sample]) for sample in samples), prompt(samples)


def words(model: Any, why: str) -> PromptSet:
    """Prompts without a processor: random words, some of which are declared visual.

    Args:
        model: The model.
        why: Why there is no processor, in words.
    """
    text = model.config.get_text_config(decoder=True)
    ordinary = torch.ones(text.vocab_size, dtype=torch.bool)
    ordinary[[i for i in reserved_ids(model) if i < text.vocab_size]] = False
    drawn = torch.randperm(text.vocab_size, generator=torch.Generator().manual_seed(0))
    drawn = drawn[ordinary[drawn]]
    rows, start = [], 0
    for before, visual, after in _ROWS:
        length = before + visual + after
        ids = drawn[torch.arange(start, start + length) % len(drawn)]
        rows.append((ids, (torch.arange(length) >= before) & (torch.arange(length) < before + visual)))
        start += length
    width = max(len(ids) for ids, _ in rows)
    typed = "token_type_ids" in inspect.signature(model.forward).parameters  # without them some masks are undefined
    pad = getattr(text, "pad_token_id", None) or 0
    return PromptSet(
        tuple(_padded([row], len(row[0]), model.device, pad, typed) for row in rows),
        _padded(rows, width, model.device, pad, typed),
        f"random words, some declared visual; vision tower not exercised ({why})",
    )


def _padded(rows: list[tuple[Tensor, Tensor]], width: int, device: torch.device, pad: int, typed: bool) -> VisualPrompt:
    def left(values: Tensor, value: int = 0) -> Tensor:
        return torch.nn.functional.pad(values, (width - len(values), 0), value=value)

    ids = torch.stack([left(ids, pad) for ids, _ in rows])
    mask = torch.stack([left(torch.ones_like(ids)) for ids, _ in rows])
    visual = torch.stack([left(visual) for _, visual in rows]).to(device)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if typed:
        inputs["token_type_ids"] = torch.zeros_like(ids)
    return VisualPrompt(to_device(inputs, device), visual, marked=False)


def reserved_ids(model: Any, processor: Any = None) -> list[int]:
    """Token ids with a function in the model, such as placeholders and the end: no dictated answer has them."""
    ids = set(visual_token_ids(model.config))
    for config in (model.config, model.config.get_text_config(decoder=True), model.generation_config):
        for name, value in vars(config).items():
            if name.endswith(("token_id", "token_index")):
                ids.update(i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int))
    ids.update(getattr(getattr(processor, "tokenizer", None), "all_special_ids", ()))
    return sorted(i for i in ids if i >= 0)


def _spread(positions: list[int]) -> list[int]:
    if len(positions) <= _COMPARED:
        return positions
    return [positions[i * len(positions) // _COMPARED] for i in range(_COMPARED)]
