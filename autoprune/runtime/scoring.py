"""The scores of a stage, from the forward pass that is running."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.cache import cached_keys
from autoprune.runtime.call import Context
from autoprune.runtime.criteria import (
    Softmax,
    attention_received,
    better_rank,
    codebook_scores,
    diversity_scores,
    random_scores,
    uniform_scores,
)
from autoprune.runtime.tap import Observer, tapped
from autoprune.schedule import AttentionCriterion, CodebookCriterion, RandomCriterion, Stage, UniformCriterion


class _Seen(Exception):  # noqa: N818 - a signal, not an error
    """Ends an attention call once its query and key were seen."""


def text_rows(context: Context) -> Tensor:
    """BoolTensor[B, S]: prompt tokens after the first visual one that are not visual."""
    return context.prompt & ~context.visual & (context.visual.cumsum(1) > 0)


def voting_rows(context: Context, rows: str) -> Tensor:
    """BoolTensor[B, S]: the query rows that vote, named as `AttentionCriterion.rows` names them.

    Raises:
        PatchError: a sample with visual tokens has no such row.
    """
    if rows == "last":
        voting = context.last_prompt
    elif rows in ("text", "raters"):
        voting = text_rows(context) if context.raters is None or rows == "text" else context.raters
    else:
        prompt = context.prompt & context.alive
        voting = prompt & context.visual if rows == "visual" else prompt
    if bool((context.visual.any(1) & ~voting.any(1)).any()):
        raise PatchError(
            "a sample has no such row: no text follows its first visual token",
            field="criterion.rows",
            value=rows,
            remedy="use rows 'last', 'visual' or 'all', or put the image before the text",
        )
    return voting


def observer(context: Context, criterion: AttentionCriterion, before: int, store: Callable[[Tensor], None]) -> Observer:
    """A tap callback that stores the criterion's scores as FloatTensor[B, S].

    Args:
        context: The forward pass.
        criterion: What to score.
        before: Entries that the layer's cache was given before this pass.
        store: Takes the scores.
    """

    def observe(query: Tensor, key: Tensor, mask: Tensor | None, softmax: Softmax) -> None:
        n, frame = query.shape[2], context.frame
        first = min(key.shape[2] - n, before)
        key = key[:, :, : first + n]  # behind the new keys a static cache has free entries

        def received(name: str) -> Tensor:
            rows = voting_rows(context, name).to(query.device)
            if frame is not None:
                rows = rows.gather(1, frame.index.to(rows.device)) & frame.valid.to(rows.device)
            with torch.no_grad(), _full_precision(query):
                scores = attention_received(query, key, rows, mask, softmax, criterion)[:, first:]
            if frame is not None:
                full = scores.new_zeros(context.batch, context.length)
                scores = full.scatter_(1, frame.index.to(full.device), scores)
            return scores.to(context.visual.device)

        scores = received(criterion.rows)
        if criterion.combine is not None:
            scores = better_rank(scores, received(criterion.combine), context.visual & context.alive)
        store(scores)

    return observe


def _full_precision(tensor: Tensor) -> AbstractContextManager[Any]:
    """Scores are fp32 also where the model runs under autocast."""
    return torch.autocast(tensor.device.type, enabled=False)


def score_current(
    attention: nn.Module,
    layer: nn.Module,
    i: int,
    criterion: AttentionCriterion,
    context: Context,
    call: tuple[tuple[Any, ...], dict[str, Any]],
    before: int,
) -> Tensor:
    """Scores from the query and key of the layer about to run, FloatTensor[B, S].

    The layer is called without cache and left as soon as its attention knows query and key.
    """
    found: list[Tensor] = []
    score = observer(context, criterion, before, found.append)
    cached = cached_keys(context.cache, i, before)

    def observe(query: Tensor, key: Tensor, mask: Tensor | None, softmax: Softmax) -> None:
        if cached is not None:
            if cached.shape[1::2] != key.shape[1::2]:
                raise PatchError(
                    f"layer {i} caches what its keys are made from, not the keys that a score needs",
                    field="criterion.at",
                    value="current",
                    remedy="use 'previous', or start without a cache",
                )
            key = torch.cat([cached.to(key.device), key], 2)
            key = key if mask is None else key[:, :, -mask.shape[3] :]  # a full static window returns one less
        score(query, key, mask, softmax)
        raise _Seen

    args, kwargs = call
    with torch.no_grad(), tapped(attention, observe):
        try:
            # Not the layer itself: its hooks belong to the pass proper.
            layer.forward(*args, **{**kwargs, "past_key_values": None})
        except _Seen:
            return found[0]
    raise unseen(i)


def unseen(i: int) -> PatchError:
    """The error for an attention call that did not pass through transformers' attention interface."""
    return PatchError(
        f"the attention of layer {i} could not be observed",
        field="criterion",
        value="attention",
        remedy="this architecture does not call transformers' attention interface; use diversity or withdraw",
    )


def score_without_attention(
    stage: Stage, context: Context, candidates: Tensor, hidden: Tensor, codebooks: Mapping[CodebookCriterion, Tensor]
) -> Tensor:
    """Scores of criteria that need no attention, FloatTensor[B, S].

    Args:
        stage: The stage about to prune.
        context: The forward pass.
        candidates: BoolTensor[B, S], visual tokens alive.
        hidden: [B, S, d], hidden states entering the stage's layer, full length.
        codebooks: Prototypes of each codebook.
    """
    scores = torch.zeros(candidates.shape, device=candidates.device)
    for b, n_visual in enumerate(context.n_visual):
        alive = int(candidates[b].sum())
        if isinstance(stage.criterion, RandomCriterion):
            order = random_scores(n_visual, stage.criterion.seed).to(scores.device)
            scores[b, context.visual[b]] = order
        elif isinstance(stage.criterion, UniformCriterion):
            scores[b, candidates[b]] = uniform_scores(alive, stage.keep.target(n_visual, alive)).to(scores.device)
        else:
            features = hidden[b, candidates[b].to(hidden.device)].detach()
            with _full_precision(features):
                if isinstance(stage.criterion, CodebookCriterion):
                    found = codebook_scores(features, codebooks[stage.criterion].to(features.device))
                else:
                    found = diversity_scores(features, stage.keep.target(n_visual, alive))
            scores[b, candidates[b]] = found.to(scores.device)
    return scores
