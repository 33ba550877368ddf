"""One decode step of a model whose cache layers differ in length."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autoprune.engines.export.prefill import finished, projected


class Decode(nn.Module):
    """From a token and the cache to the logits of the next token and the longer cache.

    Args:
        model: The model; its weights are shared, not copied.
        decoder: Its text model.
        compact: Whether survivors were renumbered: a layer then goes on counting at the length of its own cache.
    """

    def __init__(self, model: Any, decoder: Any, compact: bool) -> None:
        super().__init__()
        self.embed, self.head = model.get_input_embeddings(), model.get_output_embeddings()
        self.layers, self.norm, self.rotary = decoder.layers, decoder.norm, decoder.rotary_emb
        self.compact = compact

    def forward(self, token: Tensor, position: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        """Logits [1, vocabulary], then key and value of every layer, each one entry longer.

        Args:
            token: LongTensor[1, 1].
            position: LongTensor[1, 1], its place in prompt and answer, dropped tokens counted.
            past: Key and value [1, H_kv, m_i, d_h] of every layer.
        """
        hidden = self.embed(token)
        rotation = self.rotary(hidden, position)
        cache: list[Tensor] = []
        for layer, keys, values in zip(self.layers, past[::2], past[1::2], strict=True):
            if self.compact:
                rotation = self.rotary(hidden, torch.full_like(position, keys.shape[2]))
            query, key, value = projected(layer, hidden, rotation)
            key, value = torch.cat([keys, key], 2), torch.cat([values, value], 2)
            hidden = finished(layer, hidden, query, key, value, is_causal=False)
            cache += [key, value]
        return self.head(self.norm(hidden[:, -1])), *cache
