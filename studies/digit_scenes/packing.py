"""Many questions behind one image: how they are packed, and the attention that keeps them apart.

A sequence is `<s> user: <image> x 144`, then bins of `BIN` tokens. A bin holds whole questions; each starts at the
same position, right after the image, sees the image and itself, and nothing of the other questions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from network import VISUAL_TOKENS
from processor import ASSISTANT, EOS, VOCABULARY
from questions import Question, Scene, ask
from torch import Tensor, nn
from transformers import AttentionInterface

BIN = 32
DEEP = 8
"""From this layer on the text of a question marked `hidden` does not see the visual tokens."""
LATE = frozenset({"where"})
"""Tasks that are never hidden."""
IGNORE = -100
PACKED = "packed"


@dataclass(frozen=True)
class Packed:
    """Questions of a batch of scenes, int64 [scenes, bins * BIN] each.

    Attributes:
        ids: tokens.
        offset: place of a token within its question.
        question: number of the question a token belongs to, -1 where empty.
        target: next token where it is supervised, else IGNORE.
        task: number of the task where supervised, else -1.
        hidden: 1 for the tokens of a question that has to do without the image in the deep layers.
    """

    ids: Tensor
    offset: Tensor
    question: Tensor
    target: Tensor
    task: Tensor
    hidden: Tensor

    def mask(self, dtype: torch.dtype) -> Tensor:
        """Additive mask [scenes, bins, BIN, BIN]: causal within a question."""
        bins = self.question.unflatten(1, (-1, BIN))
        same = (bins[..., :, None] == bins[..., None, :]) & torch.ones(BIN, BIN, dtype=torch.bool).tril()
        return torch.zeros(same.shape, dtype=dtype).masked_fill(~same, torch.finfo(dtype).min)


def encode(question: Question, chat: bool) -> tuple[list[int], list[int]]:
    """Tokens of prompt and answer; without `chat` the prompt ends at its key word and the answer has no end mark."""
    text = question.prompt.lower()
    prompt = [VOCABULARY[word] for word in text[:-1].split()]
    answer = [VOCABULARY[word] for word in question.answer.split()]
    if not chat:
        return prompt, answer
    return [*prompt, VOCABULARY[text[-1]], VOCABULARY[ASSISTANT]], [*answer, VOCABULARY[EOS]]


def pack(
    scenes: list[Scene],
    weights: dict[str, float],
    bins: int,
    chat: float,
    rng: np.random.Generator,
    hide: float = 0.0,
) -> Packed:
    """Fill `bins` bins per scene with questions, tasks drawn by weight.

    A share `chat` of them gets the chat form, a share `hide` of those not LATE is hidden.
    """
    tasks, shares = list(weights), np.cumsum(list(weights.values()))
    fields = np.zeros((6, len(scenes), bins * BIN), np.int64)
    fields[[2, 4]] = -1
    fields[3] = IGNORE
    for scene, row in zip(scenes, fields.swapaxes(0, 1), strict=True):
        used, number = [0] * bins, 0
        while True:
            task = int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))
            question = ask(scene, tasks[task], rng)
            if question is None:
                continue
            in_chat_form = chat == 1 or (chat > 0 and rng.random() < chat)
            prompt, answer = encode(question, in_chat_form)
            length = len(prompt) + len(answer) - 1
            slot = next((slot for slot in range(bins) if used[slot] + length <= BIN), None)
            if slot is None:
                break
            start = slot * BIN + used[slot]
            row[0, start : start + length] = (prompt + answer)[:-1]
            row[1, start : start + length] = np.arange(length)
            row[2, start : start + length] = number
            supervised = slice(start + len(prompt) - 1, start + length)
            row[3, supervised], row[4, supervised] = answer, task
            row[5, start : start + length] = hide > 0 and tasks[task] not in LATE and rng.random() < hide
            used[slot] += length
            number += 1
    return Packed(*torch.from_numpy(fields))


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    hidden: Tensor,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention within the image prefix; bins see the prefix and, through the mask, themselves."""
    bins = attention_mask.shape[1]
    prefix = query.shape[2] - bins * BIN
    split = (prefix, bins * BIN)
    (query_prefix, query_text), (key_prefix, key_text), (value_prefix, value_text) = (
        part.split(split, 2) for part in (query, key, value)
    )
    causal = torch.full((prefix, prefix), torch.finfo(query.dtype).min, dtype=query.dtype).triu(1)
    # Plain matrix products: at this size the fused CPU kernel's backward pass is several times slower.
    seen = ((query_prefix * scaling) @ key_prefix.mT + causal).softmax(-1) @ value_prefix
    query_text = query_text * scaling
    in_bins: Callable[[Tensor], Tensor] = lambda part: part.unflatten(2, (bins, BIN))  # noqa: E731
    own = in_bins(query_text) @ in_bins(key_text).mT + attention_mask[:, None]
    to_image = query_text @ key_prefix.mT
    if module.layer_idx >= DEEP and hidden.any():
        visual = torch.arange(prefix) >= prefix - VISUAL_TOKENS
        blocked = hidden.bool()[:, None, :, None] & visual
        to_image = to_image.masked_fill(blocked, torch.finfo(query.dtype).min)
    weights = torch.cat([to_image, own.flatten(2, 3)], -1).softmax(-1)
    to_prefix, to_own = weights.split((prefix, BIN), -1)
    text = to_prefix @ value_prefix + (in_bins(to_own) @ in_bins(value_text)).flatten(2, 3)
    return torch.cat([seen, text], 2).transpose(1, 2), None


AttentionInterface.register(PACKED, _attention)
