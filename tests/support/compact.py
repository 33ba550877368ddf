"""An independent, slow reference for recurrent layers, in which masking a token does not remove it.

Each sample runs alone, without padding: a plain loop over the decoder layers, from each stage on with the survivors
only. There is no cache: every generated token runs the whole sequence again.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import torch
from support.reference import MaskedReference
from torch import Tensor
from transformers.modeling_outputs import MoeModelOutputWithPast


class CompactReference(MaskedReference):
    """Context manager: run the model inside it; only its text model is replaced."""

    def __enter__(self) -> CompactReference:
        self.model.set_attn_implementation("eager")
        self.decoder = self.model.get_decoder()
        self.decoder.__dict__["forward"] = self._forward
        for i, layer in enumerate(self.decoder.layers):
            if hasattr(layer, "self_attn"):
                self.handles.append(layer.self_attn.register_forward_hook(self._keep_map(i)))
        return self

    def __exit__(self, k: type[BaseException] | None, e: BaseException | None, t: TracebackType | None) -> None:
        super().__exit__(k, e, t)
        del self.decoder.__dict__["forward"]

    def _forward(self, inputs_embeds: Tensor, position_ids: Tensor | None = None, **rest: Any) -> Any:
        batch, new = inputs_embeds.shape[:2]
        prefill = new == self.visual.shape[1]
        if position_ids is not None and position_ids.ndim == 3:
            position_ids = position_ids[-3:]  # before time, height and width, some models number the text
        if prefill:
            self.embeds, self.positions = inputs_embeds, position_ids
            self.dead = {i: torch.zeros_like(self.visual) for i in range(len(self.decoder.layers))}
        else:
            self.embeds = torch.cat([self.embeds, inputs_embeds], 1)
            if position_ids is not None:
                self.positions = torch.cat([self.positions, position_ids], -1)
        hidden = torch.zeros_like(self.embeds)
        for b in range(batch):
            present = [j for j in range(hidden.shape[1]) if j >= self.valid.shape[1] or self.valid[b, j]]
            survivors, states = self._sample(b, present, prefill)
            hidden[b, survivors] = states
        return MoeModelOutputWithPast(last_hidden_state=hidden[:, -new:], past_key_values=rest.get("past_key_values"))

    def _sample(self, b: int, present: list[int], decide: bool) -> tuple[list[int], Tensor]:
        """Positions that are left of one sample, and their hidden states after the final norm."""
        hidden = self.embeds[b : b + 1, present]
        places = torch.arange(len(present))[None]
        if self.positions is not None:
            places = self.positions[..., b : b + 1, :][..., present]
        rotary = self.decoder.rotary_emb(hidden, places)
        for i, layer in enumerate(self.decoder.layers):
            if decide:
                self._decide_alone(i, b, present, hidden, rotary)
            left = [n for n, j in enumerate(present) if j >= self.valid.shape[1] or not self.dead[i][b, j]]
            present, hidden = [present[n] for n in left], hidden[:, left]
            rotary = tuple(table[:, left] for table in rotary)
            hidden = self._run(layer, hidden, rotary)
        norm = getattr(self.decoder, "norm", None) or self.decoder.embedding_norm
        return present, norm(hidden)[0]

    def _run(self, layer: Any, hidden: Tensor, rotary: tuple[Tensor, ...]) -> Tensor:
        n = hidden.shape[1]
        blocked = torch.full((1, 1, n, n), torch.finfo(hidden.dtype).min).triu(1)
        return layer(
            hidden,
            attention_mask=blocked if hasattr(layer, "self_attn") else None,
            position_embeddings=rotary,
            position_ids=None,
            past_key_values=None,
        )

    def _decide_alone(self, i: int, b: int, present: list[int], hidden: Tensor, rotary: tuple[Tensor, ...]) -> None:
        if i:
            self.dead[i][b] = self.dead[i - 1][b]
        if i not in self.stages:
            return
        criterion, scored = self.stages[i].criterion, i - 1
        if getattr(criterion, "at", None) == "current":
            self._run(self.decoder.layers[i], hidden, rotary)
            scored = i
        width = self.visual.shape[1]
        states = torch.zeros(b + 1, width, hidden.shape[-1])
        states[b, present] = hidden[0]
        weights = None
        if scored in self.maps:
            heads = self.maps[scored][0]
            weights = torch.zeros(b + 1, len(heads), width, width)
            weights[b][:, torch.tensor(present)[:, None], torch.tensor(present)] = heads
        alive = [j for j in present if self.visual[b, j]]
        keep = self._keep(self.stages[i], b, alive, weights, states)
        for j in set(alive) - keep:
            self.dead[i][b, j] = True
