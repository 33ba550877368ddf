"""What a criterion says: pure functions from tensors to scores, higher = kept first.

A new criterion is one function here, its row in `scoring.py`, its model in `schedule.py` and its test row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from autoprune.schedule import AttentionCriterion

ROW_CHUNK = 256
"""Query rows scored at once: bounds memory at B·H·256·N floats, never an n x n map."""


class Softmax(NamedTuple):
    """How an attention kernel turns products of query and key into weights.

    Attributes:
        scaling: Factor on the logits; None = d ** -0.5.
        softcap: Logits are squashed to ±softcap by tanh before they are masked (Gemma 2); None = not at all.
        sinks: FloatTensor[H], a logit per head that takes weight away from all keys (gpt-oss); None = no sink.
        causal: Whether a row without a mask sees only itself and what is before it.
    """

    scaling: float | None = None
    softcap: float | None = None
    sinks: Tensor | None = None
    causal: bool = True


def attention_received(
    query: Tensor,
    key: Tensor,
    rows: Tensor,
    mask: Tensor | None,
    softmax: Softmax,
    criterion: AttentionCriterion,
) -> Tensor:
    """Attention that each key receives from the chosen query rows, exact, in fp32.

    Args:
        query: [B, H, n, d], after rotary embedding.
        key: [B, H_kv, N, d], after rotary embedding; the last n keys belong to the n queries.
        rows: BoolTensor[B, n], the query rows that vote.
        mask: None, or bool / additive [B or 1, 1 or H, n, N] as the attention function gets it.
        softmax: How logits become weights.
        criterion: Reductions over heads and rows.

    Returns:
        FloatTensor[B, N].
    """
    batch, total = query.shape[0], key.shape[2]
    received = torch.zeros(batch, total, device=query.device)
    seen_by = torch.zeros(batch, total, device=query.device) if criterion.normalize == "causal" else None
    for chunk, weights, visible in attention_rows(query, key, rows.any(0).nonzero()[:, 0], mask, softmax):
        voted = _over_heads(weights, criterion.heads)
        ballot = rows[:, chunk, None].to(voted.dtype)
        received += (voted * ballot).sum(1)
        if seen_by is not None:
            seen_by += (visible.any(1) * ballot).sum(1)
    if seen_by is not None:
        return received / seen_by.clamp(min=1)
    if criterion.reduce == "mean":
        return received / rows.sum(1, keepdim=True).clamp(min=1)
    return received


def attention_rows(
    query: Tensor, key: Tensor, rows: Tensor, mask: Tensor | None, softmax: Softmax
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of an attention map, exact, in fp32, a chunk at a time.

    Args:
        query: [B, H, n, d].
        key: [B, H_kv, N, d]; the last n keys belong to the n queries.
        rows: LongTensor[r], which query rows.
        mask: As in `attention_received`.
        softmax: How logits become weights.

    Yields:
        A chunk of `rows` [c], its weights [B, H, c, N], and which keys its rows may see, bool [B or 1, 1 or H, c, N].
    """
    batch, heads, n, width = query.shape
    groups, total = key.shape[1], key.shape[2]
    scaling = width**-0.5 if softmax.scaling is None else softmax.scaling
    keys = key.float().transpose(2, 3)
    columns = torch.arange(total, device=query.device)
    for chunk in torch.split(rows, ROW_CHUNK):
        q = query[:, :, chunk].float().reshape(batch, groups, -1, width)
        logits = (q @ keys).view(batch, heads, len(chunk), total) * scaling
        if softmax.softcap is not None:
            logits = softmax.softcap * torch.tanh(logits / softmax.softcap)
        if mask is None:
            last = chunk + (total - n) if softmax.causal else torch.full_like(chunk, total)
            visible = (columns <= last[:, None])[None, None]
        else:
            picked = mask[:, :, chunk, :total]
            visible = picked if picked.dtype == torch.bool else picked > torch.finfo(picked.dtype).min / 2
            if picked.dtype != torch.bool:
                logits = logits + picked.float()
        yield chunk, _weights(logits.masked_fill(~visible, float("-inf")), softmax.sinks), visible


def _weights(logits: Tensor, sinks: Tensor | None) -> Tensor:
    if sinks is None:
        return logits.softmax(-1).nan_to_num()
    sink = sinks.detach().float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
    return torch.cat([logits, sink], -1).softmax(-1)[..., :-1]


def _over_heads(weights: Tensor, reduction: str) -> Tensor:
    if reduction == "max":
        return weights.amax(1)
    return weights.sum(1) if reduction == "sum" else weights.mean(1)


def random_scores(n_visual: int, seed: int) -> Tensor:
    """A fixed random order of a sample's visual tokens: FloatTensor[n_visual].

    It depends on nothing but the seed and their number, so that a sample keeps the same tokens in every batch.
    """
    return torch.rand(n_visual, generator=torch.Generator().manual_seed(seed))


def uniform_scores(alive: int, target: int) -> Tensor:
    """1 at `target` evenly spaced tokens out of `alive`, else 0: FloatTensor[alive]."""
    scores = torch.zeros(alive)
    if target:
        scores[(2 * torch.arange(target) + 1) * alive // (2 * target)] = 1
    return scores


def diversity_scores(features: Tensor, target: int) -> Tensor:
    """Farthest-point greedy choice by cosine distance (DivPrune, CVPR 2025): the earlier chosen, the higher.

    Args:
        features: [m, d], the visual tokens alive.
        target: How many will be kept.

    Returns:
        FloatTensor[m]; tokens not chosen score 0.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    distance = 1 - unit @ unit.T
    scores = torch.zeros(len(features), device=features.device)
    if target == 0:
        return scores
    # First pick: the token farthest from its nearest neighbour.
    first = (distance + 4 * torch.eye(len(features), device=features.device)).amin(1).argmax()
    scores[first] = target
    nearest = distance[first].clone()
    for rank in range(1, target):
        nearest[scores > 0] = -1
        chosen = nearest.argmax()
        scores[chosen] = target - rank
        nearest = torch.minimum(nearest, distance[chosen])
    return scores


def rater_rows(embeddings: Tensor, visual: Tensor, text: Tensor) -> Tensor:
    """The words that match the image (SparseVLM, ICML 2025, section 3.2), among the text after the first visual token.

    A word's weight is the mean over visual tokens of the softmax over words of their dot products; raters weigh more
    than the mean word. Where no word does, all of them vote.

    Args:
        embeddings: [B, S, d], input embeddings.
        visual: BoolTensor[B, S], visual tokens.
        text: BoolTensor[B, S], words.

    Returns:
        BoolTensor[B, S], a subset of `text`.
    """
    raters = text.clone()
    visual, text = visual.to(embeddings.device), text.to(embeddings.device)
    for b in range(len(embeddings)):
        if visual[b].any() and text[b].any():
            states = embeddings[b].detach().float()
            weight = (states[visual[b]] @ states[text[b]].T).softmax(1).mean(0)
            above = weight > weight.mean()
            raters[b, text[b].to(raters.device)] = above.to(raters.device) if bool(above.any()) else True
    return raters


def better_rank(first: Tensor, second: Tensor, candidates: Tensor) -> Tensor:
    """The better of two ranks (FitPrune, AAAI 2025: what leaves is the intersection of two lists of the lowest).

    Args:
        first: FloatTensor[B, S], scores.
        second: FloatTensor[B, S], other scores.
        candidates: BoolTensor[B, S], the tokens that are ranked.

    Returns:
        FloatTensor[B, S], higher = kept first; 0 is the best rank.
    """

    def rank(scores: Tensor) -> Tensor:
        order = scores.masked_fill(~candidates, float("-inf")).argsort(dim=1, descending=True, stable=True)
        places = torch.arange(order.shape[1], device=order.device).expand_as(order)
        return torch.empty_like(order).scatter_(1, order, places)

    return -torch.minimum(rank(first), rank(second)).float()


def codebook_scores(features: Tensor, prototypes: Tensor) -> Tensor:
    """How unlike redundant prototypes tokens are (arXiv 2503.20540): minus the largest cosine.

    Args:
        features: [m, d], projected visual tokens.
        prototypes: [P, d].

    Returns:
        FloatTensor[m], in [-1, 1].
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    return -(unit @ torch.nn.functional.normalize(prototypes.float(), dim=1).T).amax(1)
