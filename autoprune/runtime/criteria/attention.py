"""Behaviour of ``attention``: exact rows of one layer's attention, in fp32, never an n x n map."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from autoprune.errors import PatchError
from autoprune.runtime.criteria import ScoreInputs, ScoreWork
from autoprune.runtime.exact import exact_dtype
from autoprune.runtime.survivors import places, take
from autoprune.runtime.tap import Softmax
from autoprune.schedule import AttentionCriterion, Reads

ROW_CHUNK = 256
"""Query rows scored at once: bounds memory at B·H·256·N floats, never an n x n map."""


def score(inputs: ScoreInputs) -> Tensor:
    """Attention that each token receives from the rows that vote; of two sets of rows, the better rank."""
    options: AttentionCriterion = inputs.options
    first = _received_from(inputs, options.rows)
    if options.combine is None:
        return first
    return better_rank(first, _received_from(inputs, options.combine), inputs.candidates)


def macs(work: ScoreWork, options: AttentionCriterion) -> int:
    """One product of the voting rows with every key alive, because an exact softmax row needs them all.

    ``at: current`` also runs the query, key and value projections of the layer about to run. ``raters`` cost the rows
    of every word: how many match is not read back.
    """
    text = work.text_rows
    voters = {"last": 1, "text": text, "raters": text, "visual": work.candidates, "all": work.tokens}
    rows = voters[options.rows] + (voters[options.combine] if options.combine else 0)
    projections = work.tokens * work.qkv_macs if options.reads is Reads.LAYER_ITSELF else 0
    return rows * work.tokens * work.query_width + projections


def _received_from(inputs: ScoreInputs, rows: str) -> Tensor:
    """FloatTensor[B, S], attention received from the rows that a name stands for."""
    query, key, options = inputs.query, inputs.key, inputs.options
    assert query is not None  # the declaration reads a layer
    assert key is not None
    voting = voting_rows(inputs, rows).to(query.device)
    if inputs.index is not None and inputs.present is not None:
        voting = voting.gather(1, inputs.index.to(query.device)) & inputs.present.to(query.device)
    most = max(_n_voters(inputs, rows))
    scores = attention_received(query, key, voting, inputs.mask, inputs.softmax, options, most)
    scores = scores[:, key.shape[2] - query.shape[2] :]
    if inputs.index is not None:
        full = scores.new_zeros(inputs.candidates.shape)
        scores = full.scatter_(1, inputs.index.to(full.device), scores)
    return scores.to(inputs.candidates.device)


def voting_rows(inputs: ScoreInputs, rows: str) -> Tensor:
    """BoolTensor[B, S]: the query rows that vote, named as `AttentionCriterion.rows` names them.

    Raises:
        PatchError: no text follows the first visual token of a sample, but text is to vote.
    """
    if rows in ("text", "raters"):
        if any(visual and not text for visual, text in zip(inputs.n_visual, inputs.n_text, strict=True)):
            raise PatchError(
                "a sample has no such row: no text follows its first visual token",
                field="criterion.rows",
                value=rows,
                remedy="use rows 'last', 'visual' or 'all', or put the image before the text",
            )
        return text_rows(inputs.prompt, inputs.visual) if rows == "text" or inputs.raters is None else inputs.raters
    if rows == "last":
        return inputs.last
    prompt = inputs.prompt & inputs.alive
    return prompt & inputs.visual if rows == "visual" else prompt


def _n_voters(inputs: ScoreInputs, rows: str) -> tuple[int, ...]:
    """Rows that vote in each sample, at most, known on the host."""
    if rows == "last":
        return (1,)
    if rows in ("text", "raters"):
        return inputs.n_text
    if rows == "visual":
        return inputs.n_candidates
    counts = zip(inputs.n_prompt, inputs.n_visual, inputs.n_candidates, strict=True)
    return tuple(prompt - visual + alive for prompt, visual, alive in counts)


def text_rows(prompt: Tensor, visual: Tensor) -> Tensor:
    """BoolTensor[B, S]: prompt tokens after the first visual one that are not visual."""
    return prompt & ~visual & (visual.cumsum(1) > 0)


def attention_received(
    query: Tensor,
    key: Tensor,
    rows: Tensor,
    mask: Tensor | None,
    softmax: Softmax,
    criterion: AttentionCriterion,
    most: int,
) -> Tensor:
    """Attention that each key receives from the chosen query rows, exact: rows in fp32, summed in double precision.

    Args:
        query: [B, H, n, d], after rotary embedding.
        key: [B, H_kv, N, d], after rotary embedding; the last n keys belong to the n queries.
        rows: BoolTensor[B, n], the query rows that vote.
        mask: None, or bool / additive [B or 1, 1 or H, n, N] as the attention function gets it.
        softmax: How logits become weights.
        criterion: Reductions over heads and rows.
        most: The largest number of rows that vote in one sample, so that nothing is read back to find it.

    Returns:
        FloatTensor[B, N]; rows and keys that the mask closes count 0 whatever they hold, and a sample in which an open
        one is not finite is NaN.
    """
    batch, total, exact = query.shape[0], key.shape[2], exact_dtype(query.device)
    received = torch.zeros(batch, total, dtype=exact, device=query.device)
    seen = torch.zeros(batch, total, dtype=torch.bool, device=query.device)
    seen_by = torch.zeros_like(received) if criterion.normalize == "causal" else None
    voters = places(rows, most)
    for chunk, weights, visible in attention_rows(query, key, voters, mask, softmax):
        ballot = rows.gather(1, chunk)[:, :, None]  # samples with fewer voters are filled up
        # Not a product: what does not vote may be NaN, as padding often is.
        received += over_heads(weights, criterion.heads).masked_fill(~ballot, 0.0).sum(1, dtype=exact)
        open_to = visible.any(1) & ballot
        seen |= open_to.any(1)
        if seen_by is not None:
            seen_by += open_to.sum(1)
    if seen_by is not None:
        received = received / seen_by.clamp(min=1)
    elif criterion.reduce == "mean":
        received = received / rows.sum(1, keepdim=True).clamp(min=1)
    # A key that is minus infinity in every product would weigh nothing, without a word.
    broken = (torch.isnan(received) | seen & ~torch.isfinite(key).all(3).all(1)).any(1, keepdim=True)
    return received.float().masked_fill(broken, float("nan"))


def attention_rows(
    query: Tensor, key: Tensor, rows: Tensor, mask: Tensor | None, softmax: Softmax
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Rows of an attention map, exact, in fp32, a chunk at a time.

    Args:
        query: [B, H, n, d].
        key: [B, H_kv, N, d]; the last n keys belong to the n queries.
        rows: LongTensor[B, r], which query rows of each sample.
        mask: As in `attention_received`.
        softmax: How logits become weights.

    Yields:
        A chunk of `rows` [B, c], its weights [B, H, c, N], and which keys its rows may see, bool [B, 1 or H, c, N].
    """
    keys = key.float().transpose(2, 3)
    for chunk in torch.split(rows, ROW_CHUNK, dim=1):
        yield chunk, *weights_of(query, keys, chunk, mask, softmax)


def weights_of(
    query: Tensor, keys: Tensor, rows: Tensor, mask: Tensor | None, softmax: Softmax
) -> tuple[Tensor, Tensor]:
    """Some rows of an attention map, all at once.

    Args:
        query: [B, H, n, d].
        keys: FloatTensor[B, H_kv, d, N], transposed; the last n belong to the n queries.
        rows: LongTensor[B, r], which query rows of each sample.
        mask: As in `attention_received`.
        softmax: How logits become weights.

    Returns:
        Their weights [B, H, r, N], and which keys they may see, bool [B, 1 or H, r, N].
    """
    batch, heads, n, width = query.shape
    groups, total = keys.shape[1], keys.shape[3]
    scaling = width**-0.5 if softmax.scaling is None else softmax.scaling
    q = _rows_of(query, rows).float().reshape(batch, groups, -1, width)
    logits = (q @ keys).view(batch, heads, rows.shape[1], total) * scaling
    if softmax.softcap is not None:
        logits = softmax.softcap * torch.tanh(logits / softmax.softcap)
    if mask is None:
        last = rows + (total - n) if softmax.causal else torch.full_like(rows, total)
        visible = (torch.arange(total, device=query.device) <= last[:, :, None])[:, None]
    else:
        picked = _rows_of(mask[..., :total], rows)
        visible = picked if picked.dtype == torch.bool else picked > torch.finfo(picked.dtype).min / 2
        if picked.dtype != torch.bool:
            logits = logits + picked.float()
    weights = _weights(logits.masked_fill(~visible, float("-inf")), softmax.sinks)
    return weights.masked_fill(~visible, 0.0), visible  # a row that sees nothing is 0 / 0


def _rows_of(tensor: Tensor, rows: Tensor) -> Tensor:
    """Rows [B, c] of the third axis of a tensor [B or 1, X, n, Y]: [B, X, c, Y]."""
    if tensor.shape[0] == 1 < len(rows):  # a mask that the samples share; it is not copied for each of them
        return tensor[0][:, rows].transpose(0, 1)
    return take(tensor.transpose(1, 2), rows, 1).transpose(1, 2)


def _weights(logits: Tensor, sinks: Tensor | None) -> Tensor:
    if sinks is None:
        return logits.softmax(-1)
    sink = sinks.detach().float().view(1, -1, 1, 1).expand(*logits.shape[:3], 1)
    return torch.cat([logits, sink], -1).softmax(-1)[..., :-1]


def over_heads(weights: Tensor, reduction: str) -> Tensor:
    """Weights [B, H, r, N] of all heads as one: FloatTensor[B, r, N]."""
    if reduction == "max":
        return weights.amax(1)
    return weights.sum(1) if reduction == "sum" else weights.mean(1)


def rater_rows(embeddings: Tensor, visual: Tensor, text: Tensor, n_visual: int, n_text: int) -> Tensor:
    """The words that match the image (SparseVLM, ICML 2025, section 3.2), among the text after the first visual token.

    A word's weight is the mean over visual tokens of the softmax over words of their dot products; raters weigh more
    than the mean word. Where no word does, all of them vote. Sums are made in double precision and weights rounded to
    single, so that words of equal weight are equal in every batch.

    Args:
        embeddings: [B, S, d], input embeddings.
        visual: BoolTensor[B, S], visual tokens.
        text: BoolTensor[B, S], words.
        n_visual: The largest number of visual tokens of a sample.
        n_text: The largest number of words.

    Returns:
        BoolTensor[B, S], a subset of `text`.
    """
    if n_visual == 0 or n_text == 0:
        return text
    exact = exact_dtype(embeddings.device)
    image, words = places(visual, n_visual), places(text, n_text)
    is_image, is_word = visual.gather(1, image), text.gather(1, words)
    states = embeddings.detach()
    products = take(states, image, 1).to(exact) @ take(states, words, 1).to(exact).transpose(1, 2)
    is_image, is_word = is_image.to(products.device), is_word.to(products.device)
    shares = products.masked_fill(~is_word[:, None], float("-inf")).softmax(2).masked_fill(~is_image[:, :, None], 0.0)
    weight = (shares.sum(1) / is_image.sum(1, keepdim=True).clamp(min=1)).float()
    total = weight.to(exact).masked_fill(~is_word, 0.0).sum(1, keepdim=True)
    above = (weight > (total / is_word.sum(1, keepdim=True).clamp(min=1)).float()) & is_word
    chosen = torch.where(above.any(1, keepdim=True), above, is_word).to(text.device)
    return torch.zeros_like(text).scatter_(1, words, chosen)


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
        by_rank = torch.arange(order.shape[1], device=order.device).expand_as(order)
        return torch.empty_like(order).scatter_(1, order, by_rank)

    finite = torch.isfinite(first) & torch.isfinite(second)  # ranks are finite whatever was ranked
    return -torch.minimum(rank(first), rank(second)).float().masked_fill(~finite, float("nan"))
