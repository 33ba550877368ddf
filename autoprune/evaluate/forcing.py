"""Teacher forcing: prompts and their continuations laid out so that one slice of logits serves the whole batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Forced:
    """A batch of rows ``[left padding][prompt][continuation without its last token]``.

    All rows end at the same column: the logits that predict the continuations are the last `width` columns.

    Attributes:
        inputs: Model inputs of the extended rows.
        ends: LongTensor[B], column at which the prompt ends and the continuation starts.
        targets: LongTensor[B, width], the continuations, right-aligned.
        valid: BoolTensor[B, width], where `targets` holds a token.
    """

    inputs: dict[str, Any]
    ends: Tensor
    targets: Tensor
    valid: Tensor

    @property
    def width(self) -> int:
        """Logit columns that are needed."""
        return int(self.targets.shape[1])


def force(inputs: Mapping[str, Any], continuations: Sequence[Sequence[int]], padding: int) -> Forced:
    """Appends continuations to encoded prompts.

    Args:
        inputs: What `encode` made: `input_ids`, `attention_mask` [B, S], left-padded, and the visual inputs.
        continuations: Tokens of each row, at least one.
        padding: Token id that fills up rows.
    """
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    prompts = mask.sum(1)
    fed = torch.tensor([len(tokens) - 1 for tokens in continuations], device=ids.device)
    width = int(fed.max()) + 1
    total = int((prompts + fed).max())
    extended = dict(inputs)
    for name, value in inputs.items():
        # Whatever runs along the tokens (attention mask, token types) is laid out like them; a continuation is text.
        if isinstance(value, Tensor) and value.shape == ids.shape:
            fill = padding if name == "input_ids" else 0
            rows = value.new_full((len(ids), total), fill)
            for b, tokens in enumerate(continuations):
                end, prompt = total - int(fed[b]), int(prompts[b])
                rows[b, end - prompt : end] = value[b, -prompt:]
                if name == "input_ids":
                    rows[b, end:] = torch.tensor(tokens[:-1], dtype=rows.dtype)
                elif name == "attention_mask":
                    rows[b, end:] = 1
            extended[name] = rows
    targets = ids.new_zeros(len(ids), width)
    valid = torch.zeros(len(ids), width, dtype=torch.bool, device=ids.device)
    for b, tokens in enumerate(continuations):
        targets[b, width - len(tokens) :] = torch.tensor(tokens, dtype=targets.dtype)
        valid[b, width - len(tokens) :] = True
    return Forced(extended, total - fed, targets, valid)
