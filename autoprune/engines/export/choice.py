"""Which visual tokens a stage keeps, in tensors whose sizes are fixed but for the number of text tokens.

Scores are those of ``autoprune.runtime.criteria``; what stands here is only how tokens are found without masks that
depend on data. Ties keep the earlier token: torch sorts stably where that is asked for, and ONNX's TopK puts the lower
index first by its definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from autoprune.engines.export.steps import Step
from autoprune.runtime.criteria import prepared
from autoprune.runtime.criteria.attention import ROW_CHUNK, better_rank, over_heads, weights_of
from autoprune.runtime.criteria.diversity import chosen_order
from autoprune.runtime.criteria.random import order
from autoprune.runtime.criteria.uniform import evenly
from autoprune.runtime.exact import cosine
from autoprune.runtime.survivors import take
from autoprune.runtime.tap import Softmax
from autoprune.schedule import AttentionCriterion


class Alive(NamedTuple):
    """The tokens of a prompt that a decoder layer sees: m of them in order, `a` visual ones and `t` of text.

    Attributes:
        positions: LongTensor[1, m], rotary positions.
        visual: LongTensor[1, a], columns of the visual tokens among the m.
        number: LongTensor[1, a], which of the prompt's visual tokens these are.
        text: LongTensor[1, t], columns of the text tokens.
        behind: BoolTensor[1, t], whether a text token stands behind the first visual one.
        raters: BoolTensor[1, t], text tokens that match the image, where a stage asks for them.
    """

    positions: Tensor
    visual: Tensor
    number: Tensor
    text: Tensor
    behind: Tensor
    raters: Tensor | None


class Read(NamedTuple):
    """What a stage's criterion may read.

    Attributes:
        hidden: [1, m, d], hidden states entering its layer.
        query: [1, H, m, d_h] of the layer that it reads, after rotary embedding; None where it reads none.
        key: [1, H_kv, m, d_h].
        constant: What `constant_of` made.
    """

    hidden: Tensor
    query: Tensor | None
    key: Tensor | None
    constant: Tensor | None


def split(visual: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Columns of the visual tokens, LongTensor[1, N], and of all others, both ascending.

    Args:
        visual: BoolTensor[1, n].
        count: N, their number.
    """
    n = visual.shape[1]
    columns = torch.arange(n)[None]
    order_of = (columns + n * (~visual).long()).sort(dim=1).indices  # no two keys are the same
    return order_of[:, :count], order_of[:, count:]


def constant_of(step: Step, n_visual: int, width: int, model: nn.Module) -> Tensor | None:
    """What a stage's scores need beside the input: a fixed order, fixed scores, or prototypes.

    Raises:
        ScheduleError: a codebook that is missing or does not fit the model.
    """
    criterion = step.stage.criterion
    if step.after == 0 or criterion is None:
        return None
    if criterion.name == "random":
        return order(n_visual, getattr(criterion, "seed"))  # noqa: B009 - declared by this criterion alone
    if criterion.name == "uniform":
        return evenly(step.before, step.after)[None]
    return prepared(criterion, width, model)


def ranked(step: Step, alive: Alive, read: Read) -> tuple[Tensor, Tensor]:
    """Which of the visual tokens alive stay, LongTensor[1, after], and which leave, both ascending."""
    best_first = _scores(step, alive, read).argsort(dim=1, descending=True, stable=True)
    return best_first[:, : step.after].sort(dim=1).values, best_first[:, step.after :].sort(dim=1).values


def _scores(step: Step, alive: Alive, read: Read) -> Tensor:
    """FloatTensor[1, a], higher = kept first."""
    criterion = step.stage.criterion
    if isinstance(criterion, AttentionCriterion):
        return _attention(criterion, alive, read)
    assert criterion is not None  # a stage that selects has one
    if criterion.name == "diversity":
        every = torch.ones(1, step.before, dtype=torch.bool)
        return chosen_order(take(read.hidden, alive.visual, 1), every, torch.tensor([step.after]), step.after)
    constant = read.constant
    assert constant is not None  # `constant_of` made it for the other three
    if criterion.name == "codebook":
        return -cosine(take(read.hidden, alive.visual, 1), constant).amax(2)
    return constant[alive.number] if criterion.name == "random" else constant


def _attention(criterion: AttentionCriterion, alive: Alive, read: Read) -> Tensor:
    first = _received(criterion, criterion.rows, alive, read)
    if criterion.combine is None:
        return first
    every = torch.ones_like(first, dtype=torch.bool)
    return better_rank(first, _received(criterion, criterion.combine, alive, read), every)


def _received(criterion: AttentionCriterion, rows: str, alive: Alive, read: Read) -> Tensor:
    """FloatTensor[1, a]: attention that visual tokens receive, reduced as `attention_received` does."""
    assert read.query is not None  # the declaration reads a layer
    assert read.key is not None
    keys = read.key.float().transpose(2, 3)
    total = torch.zeros(1, keys.shape[3], dtype=torch.float64)
    seen_by, number = torch.zeros_like(total), torch.zeros(1, 1, dtype=torch.float64)
    for columns, votes in _voters(rows, alive):
        weights, visible = weights_of(read.query, keys, columns, None, Softmax())
        ballot = votes[:, :, None]
        total = total + over_heads(weights, criterion.heads).masked_fill(~ballot, 0.0).sum(1, dtype=torch.float64)
        seen_by = seen_by + (visible[:, 0] & ballot).sum(1)
        number = number + votes.sum(1, keepdim=True)
    if criterion.normalize == "causal":
        total = total / seen_by.clamp(min=1)
    elif criterion.reduce == "mean":
        total = total / number.clamp(min=1)
    return total.float().gather(1, alive.visual)


def _voters(rows: str, alive: Alive) -> Iterator[tuple[Tensor, Tensor]]:
    """Columns of the rows that vote, LongTensor[1, r], and which of them do; visual ones in bounded chunks."""
    everyone = torch.ones_like(alive.behind)
    if rows == "last":
        yield alive.text[:, -1:], everyone[:, -1:]
    if rows in ("text", "raters"):
        yield alive.text, alive.behind if alive.raters is None or rows == "text" else alive.raters
    if rows == "all":
        yield alive.text, everyone
    if rows in ("visual", "all"):
        for chunk in torch.split(alive.visual, ROW_CHUNK, dim=1):
            yield chunk, torch.ones_like(chunk, dtype=torch.bool)


def rating_words(embeddings: Tensor, visual: Tensor, text: Tensor, behind: Tensor) -> Tensor:
    """BoolTensor[1, t]: words that match the image, chosen as `rater_rows` does.

    Args:
        embeddings: [1, n, d], input embeddings.
        visual: LongTensor[1, a], columns of visual tokens.
        text: LongTensor[1, t], columns of text tokens.
        behind: BoolTensor[1, t], those behind the first visual token.
    """
    image, words = take(embeddings, visual, 1).double(), take(embeddings, text, 1).double()
    shares = (image @ words.transpose(1, 2)).masked_fill(~behind[:, None], float("-inf")).softmax(2)
    weight = (shares.sum(1) / visual.shape[1]).float()
    total = weight.double().masked_fill(~behind, 0.0).sum(1, keepdim=True)
    above = (weight > (total / behind.sum(1, keepdim=True)).float()) & behind
    return above | behind & ~above.any(1, keepdim=True)  # ONNX Runtime chooses between no booleans
