"""Ragged batches answer as their samples do alone: fillers are never seen, turns and decoding go on in place."""

from __future__ import annotations

import pytest
import torch
from support.zoo import llama
from transformers import DynamicCache

import autoprune
from autoprune import presets

HIMAP = presets.himap((1, 3), (0.5, 0.25))
TOKEN = 21


def conversation(model, turns: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, list[int]]:
    """Logits at the end of each turn and after one decoded token, [B, turns + 1, V], and the layers' lengths."""
    cache, seen, rows = DynamicCache(config=model.config), turns[0][1][:, :0], []
    visuals = iter([visual for _, _, visual in turns])
    with autoprune.apply(model, HIMAP, lambda ids, embeds: next(visuals)), torch.no_grad():
        for embeds, valid, _ in turns:
            seen = torch.cat([seen, valid], 1)
            places = (seen.cumsum(1) - 1).clamp(min=0)[:, -embeds.shape[1] :]
            call = {"attention_mask": seen, "position_ids": places, "past_key_values": cache, "use_cache": True}
            rows.append(model(inputs_embeds=embeds, **call).logits[:, -1])
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
        call = {"attention_mask": seen, "position_ids": seen.sum(1, keepdim=True) - 1, "past_key_values": cache}
        rows.append(model(input_ids=torch.full((len(seen), 1), TOKEN), use_cache=True, **call).logits[:, -1])
    return torch.stack(rows, 1), [layer.get_seq_length() for layer in cache.layers]


def turn(length: int, padding: list[int], visual: list[tuple[int, int]], seed: int):
    """Embeddings, attention mask and visual mask of two rows; `visual` counts from each row's own start."""
    embeds = torch.randn(2, length, 64, generator=torch.Generator().manual_seed(seed))
    valid, mask = torch.ones(2, length, dtype=torch.long), torch.zeros(2, length, dtype=torch.bool)
    for b in range(2):
        valid[b, : padding[b]] = 0
        mask[b, padding[b] + visual[b][0] : padding[b] + visual[b][1]] = True
    return embeds, valid, mask


def alone(turns, b: int):
    return [
        tuple(t[b : b + 1, int((valid[b] == 0).sum()) :] for t in (embeds, valid, mask))
        for embeds, valid, mask in turns
    ]


TURNS = {
    "fillers without padding": [turn(20, [0, 0], [(2, 14), (2, 6)], 0)],
    "fillers beyond the padding": [turn(20, [0, 2], [(2, 16), (2, 6)], 1)],
    "two turns with images": [turn(18, [0, 3], [(2, 12), (3, 9)], 2), turn(12, [4, 0], [(1, 5), (2, 9)], 3)],
}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", TURNS)
def test_a_ragged_batch_answers_as_its_samples_alone(name: str, attention: str) -> None:
    model = llama()
    model.set_attn_implementation(attention)
    turns = TURNS[name]
    got, lengths = conversation(model, turns)
    assert set(lengths) == {sum(embeds.shape[1] for embeds, _, _ in turns) + 1}
    for b in range(2):
        expected, _ = conversation(model, alone(turns, b))
        torch.testing.assert_close(got[b : b + 1], expected, atol=1e-4, rtol=0)
