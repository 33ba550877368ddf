"""The prefill of a model under a schedule as one module without branches that depend on data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv

from autoprune.engines.export.choice import Alive, Read, constant_of, ranked, rating_words, split
from autoprune.engines.export.steps import Step
from autoprune.runtime.exact import cosine
from autoprune.runtime.survivors import take
from autoprune.schedule import Reads


class Prefill(nn.Module):
    """From the ids of a prompt and the features of its images to the logits of the first answer token and the cache.

    Args:
        model: The model; its weights are shared, not copied.
        decoder: Its text model.
        steps: What the schedule drops.
        n_visual: Visual tokens of the prompt, N.
        visual_ids: Their placeholder ids.
        compact: Whether survivors are renumbered without gaps.
    """

    def __init__(
        self,
        model: Any,
        decoder: Any,
        steps: tuple[Step, ...],
        n_visual: int,
        visual_ids: tuple[int, ...],
        compact: bool,
    ) -> None:
        super().__init__()
        self.embed, self.head = model.get_input_embeddings(), model.get_output_embeddings()
        self.layers, self.norm, self.rotary = decoder.layers, decoder.norm, decoder.rotary_emb
        self.steps = {step.stage.layer: step for step in steps}
        self.n_visual, self.compact = n_visual, compact
        self.register_buffer("visual_ids", torch.tensor(visual_ids), persistent=False)
        width = self.embed.weight.shape[1]
        for step in steps:
            constant = constant_of(step, n_visual, width, model)
            self.register_buffer(_constant(step), constant, persistent=False)

    def forward(self, input_ids: Tensor, features: Tensor) -> tuple[Tensor, ...]:
        """Logits [1, vocabulary] of the last prompt token, then key and value [1, H_kv, m_i, d_h] of every layer.

        Args:
            input_ids: LongTensor[1, n], with N placeholders.
            features: [N, d], what the placeholders stand for.
        """
        hidden, alive = self._embedded(input_ids, features)
        rotation = self.rotary(hidden, alive.positions)
        cache: list[Tensor] = []
        query = key = None
        for i, layer in enumerate(self.layers):
            if (step := self.steps.get(i)) is not None:
                criterion = step.stage.criterion
                if criterion is not None and criterion.reads is Reads.LAYER_ITSELF:
                    query, key, _ = projected(layer, hidden, rotation)
                read = Read(hidden, query, key, getattr(self, _constant(step)))
                hidden, alive = self._after(step, alive, read)
                rotation = self.rotary(hidden, alive.positions)
            query, key, value = projected(layer, hidden, rotation)
            hidden = finished(layer, hidden, query, key, value, is_causal=True)
            cache += [key, value]
        return self.head(self.norm(hidden[:, -1])), *cache

    def _embedded(self, input_ids: Tensor, features: Tensor) -> tuple[Tensor, Alive]:
        """Embeddings [1, n, d] with the images in place, and where everything stands."""
        visual_ids: Tensor = self.get_buffer("visual_ids")
        is_visual = torch.eq(input_ids[..., None], visual_ids).any(2)
        visual, text = split(is_visual, self.n_visual)
        words = self.embed(input_ids.masked_fill(is_visual, 0))
        feature = (is_visual.long().cumsum(1) - 1).clamp(min=0)
        hidden = torch.where(is_visual[..., None], features[feature[0]][None].to(words.dtype), words)
        behind = text > visual[:, :1]
        raters = None
        if any(step.stage.criterion is not None and step.stage.criterion.asks_raters for step in self.steps.values()):
            raters = rating_words(hidden, visual, text, behind)
        positions = torch.arange(input_ids.shape[1])[None]
        return hidden, Alive(positions, visual, torch.arange(self.n_visual)[None], text, behind, raters)

    def _after(self, step: Step, alive: Alive, read: Read) -> tuple[Tensor, Alive]:
        """Hidden states of the survivors of a stage, and where they stand."""
        hidden, n_text = read.hidden, alive.text.shape[1]
        if step.after == 0:
            columns = alive.text
            text, visual, number = torch.arange(n_text)[None], alive.visual[:, :0], alive.number[:, :0]
        else:
            stay, leave = ranked(step, alive, read)
            kept = alive.visual.gather(1, stay)
            if step.stage.merge is not None:
                hidden = _merged(hidden, kept, alive.visual.gather(1, leave))
            survivors = torch.cat([alive.text, kept], 1).sort(dim=1)
            columns, place = survivors.values, survivors.indices.sort(dim=1).indices
            text, visual, number = place[:, :n_text], place[:, n_text:], alive.number.gather(1, stay)
        positions = torch.arange(columns.shape[1])[None] if self.compact else alive.positions.gather(1, columns)
        return take(hidden, columns, 1), alive._replace(positions=positions, visual=visual, number=number, text=text)


def projected(layer: Any, hidden: Tensor, rotation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Query [1, H, m, d_h], key and value [1, H_kv, m, d_h] of a decoder layer, as they are cached."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    query, key, value = (
        projection(normed).unflatten(2, (-1, attention.head_dim)).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, *rotation)
    return query, key, value


def finished(layer: Any, hidden: Tensor, query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
    """The output of a decoder layer [1, m, d], from its projections."""
    attention, groups = layer.self_attn, layer.self_attn.num_key_value_groups
    attended = scaled_dot_product_attention(
        query, repeat_kv(key, groups), repeat_kv(value, groups), is_causal=is_causal, scale=attention.scaling
    )
    hidden = hidden + attention.o_proj(attended.transpose(1, 2).flatten(2))
    mixed: Tensor = layer.mlp(layer.post_attention_layernorm(hidden))
    return hidden + mixed


def _merged(hidden: Tensor, stay: Tensor, leave: Tensor) -> Tensor:
    """Hidden states in which what leaves is averaged into the kept tokens most like it, as `survivors.merged` does."""
    before, lost = take(hidden, stay, 1), take(hidden, leave, 1).float()
    into = cosine(lost, before).argmax(2)
    joins = (into[:, :, None] == torch.arange(stay.shape[1])).float()
    total = before.float() + joins.transpose(1, 2) @ lost
    mean = (total / (1 + joins.sum(1))[:, :, None]).to(hidden.dtype)
    return hidden.scatter(1, stay[..., None].expand(-1, -1, hidden.shape[2]), mean)


def _constant(step: Step) -> str:
    return f"constant_{step.stage.layer}"
