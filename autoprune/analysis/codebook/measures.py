"""Redundancy of single visual tokens of one image: alone, among their neighbours, and in the whole image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from autoprune.analysis.codebook.neighbours import Neighbours
from autoprune.analysis.codebook.prompt import Fill, Probe, ProbedPrompt
from autoprune.analysis.divergences import Divergences
from autoprune.errors import ModelError

Variant = Literal["sound", "paper"]
"""Ways to measure redundancy: sound ones, or those of the code released with the paper."""
_TOP_CONFIDENCE, _TOP_DIVERGENCE, _GLOBAL_WEIGHT = 50, 10, 16
_NULL_EVERY = 4
_MOST_NOISE = 0.01


@dataclass(frozen=True)
class TokenMeasures:
    """Redundancy measures of the probed tokens of one image.

    Attributes:
        features: [p, d], the tokens as they enter the decoder.
        values: {measure: FloatTensor[p]}; low means redundant. Sound: ``confidence`` (top-1 probability with this token
            alone, minus the mean of the null), ``local`` and ``global`` (Jensen-Shannon divergences). Paper:
            ``confidence`` as it is, and ``context``, the local divergence plus 16 times the global one.
        null: {measure: FloatTensor[q]}, the same of meaningless tokens: see `measure`.
        noise: Divergence of the dense pass from itself, computed as the probes are.
        forwards: Versions of the prompt that were run, the dense one included.
    """

    features: Tensor
    values: dict[str, Tensor]
    null: dict[str, Tensor]
    noise: float
    forwards: int


def places(features: Tensor, count: int) -> Tensor:
    """Visual tokens to probe, LongTensor[p] ascending: evenly spaced ranks of likeness to the mean visual token.

    The released code ranks by cosine to the vision tower's class token, which not all towers have, and takes more of
    the first ranks.

    Args:
        features: [n_visual, d].
        count: How many; all tokens if there are no more.
    """
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    ranked = (unit @ unit.mean(0)).argsort(stable=True)
    count = min(count, len(ranked))
    return ranked[(2 * torch.arange(count, device=ranked.device) + 1) * len(ranked) // (2 * count)].sort().values


def measure(prompt: ProbedPrompt, neighbours: Neighbours, probed: Tensor, variant: Variant) -> TokenMeasures:
    """Measures of some visual tokens of one prompt.

    * alone: the prompt with this visual token only;
    * local: its neighbourhood only, against the same without it;
    * global: all visual tokens, against all without its tile, measured once for all tokens in it; variant ``paper``
      takes the neighbourhood of each token, as the paper does.

    Without means removed, as pruning would; the released code puts the pad token's embedding there (variant ``paper``).
    Positions stay what they are in the whole prompt, where the released code closes the gaps.

    The null is the measure of a meaningless token: at every fourth probed place, the mean visual token of the image
    takes the token's place (or those of its whole tile), and is then measured, or removed, as the token is.

    Args:
        prompt: The prompt.
        neighbours: Neighbours of each visual token.
        probed: LongTensor[p], which tokens.
        variant: How divergences are computed.

    Raises:
        EvaluationError: a logit is not finite.
        ModelError: probes do not give the dense model's answer where nothing is left out.
    """
    tokens = len(prompt.features)
    fill: Fill | None = "pad" if variant == "paper" else None
    none = torch.zeros(tokens, dtype=torch.bool, device=probed.device)
    (again,) = prompt.run([Probe(~none, none)])
    noise = float(divergence(again, prompt.logits, "sound"))
    if noise > _MOST_NOISE:
        raise ModelError(
            f"its text model, called again as it was, answers otherwise ({noise:.2g} nats); probes would mean nothing",
            field="model",
            remedy="choose another criterion: diversity needs no codebook",
        )
    single = [_only(none, [i]) for i in probed.tolist()]
    region = [_only(none, neighbours.around[i]) for i in probed.tolist()]
    alone = confidence(prompt.run([Probe(one, none) for one in single]), variant)
    alone_null = confidence(prompt.run([Probe(one, one) for one in single[::_NULL_EVERY]]), variant)

    without = prompt.run([_without(part, one, fill) for part, one in zip(region, single, strict=True)])
    local = divergence(without, prompt.run([Probe(part, none) for part in region]), variant)
    nulls = list(zip(region, single, strict=True))[::_NULL_EVERY]
    local_null = divergence(without[::_NULL_EVERY], prompt.run([Probe(*null) for null in nulls]), variant)

    every = neighbours.around if variant == "paper" else neighbours.tile
    numbers: dict[tuple[int, ...], int] = {}
    which = [numbers.setdefault(tuple(every[i]), len(numbers)) for i in probed.tolist()]
    tiles = [_only(none, list(tile)) for tile in numbers]
    without = prompt.run([_without(~none, tile, fill) for tile in tiles])
    everywhere = divergence(without, prompt.logits.expand_as(without), variant)[which]
    few = sorted(set(which[::_NULL_EVERY]))
    meaningless = prompt.run([Probe(~none, tiles[i]) for i in few])
    apart = divergence(without[few], meaningless, variant)
    everywhere_null = apart[[few.index(i) for i in which[::_NULL_EVERY]]]
    values = _named(alone, local, everywhere, variant)
    null = _named(alone_null, local_null, everywhere_null, variant)
    if variant == "sound":
        prior = alone_null.mean()
        values["confidence"], null["confidence"] = alone - prior, alone_null - prior
    forwards = 2 + 3 * len(probed) + 2 * len(nulls) + len(tiles) + len(meaningless)
    return TokenMeasures(prompt.features[probed].float(), values, null, noise, forwards)


def confidence(logits: Tensor, variant: Variant) -> Tensor:
    """Probability of the likeliest first answer token, FloatTensor[n], of logits [n, V].

    Over the whole vocabulary; the released code's softmax runs over the 50 largest logits only, which inflates it.
    """
    if variant == "paper":
        logits = logits.topk(min(_TOP_CONFIDENCE, logits.shape[-1]), -1).values
    return logits.float().softmax(-1).amax(-1)


def divergence(ablated: Tensor, whole: Tensor, variant: Variant) -> Tensor:
    """Divergence FloatTensor[n] of the answers from logits [n, V] with an ablation and without it.

    The Jensen-Shannon divergence over the whole vocabulary, in nats. The released code looks at the 10 likeliest tokens
    of the run that is not ablated, renormalised, turns both Kullback-Leibler terms round, and divides by 10.

    Raises:
        EvaluationError: a logit is not finite.
    """
    if variant == "sound":
        return Divergences.between(ablated, whole).js
    places = whole.topk(min(_TOP_DIVERGENCE, whole.shape[-1]), -1).indices
    p, q = (x.float().gather(-1, places).log_softmax(-1) for x in (ablated, whole))
    mixed = (p.exp() + q.exp()) / 2
    turned = [(mixed * (mixed.log() - log)).sum(-1) for log in (p, q)]
    return torch.stack(turned).mean(0) / places.shape[-1]


def _named(alone: Tensor, local: Tensor, everywhere: Tensor, variant: Variant) -> dict[str, Tensor]:
    if variant == "paper":
        return {"confidence": alone, "context": local + _GLOBAL_WEIGHT * everywhere}
    return {"confidence": alone, "local": local, "global": everywhere}


def _only(none: Tensor, tokens: list[int]) -> Tensor:
    only = none.clone()
    only[tokens] = True
    return only


def _without(kept: Tensor, gone: Tensor, fill: Fill | None) -> Probe:
    return Probe(kept & ~gone, torch.zeros_like(gone)) if fill is None else Probe(kept, gone, fill)
