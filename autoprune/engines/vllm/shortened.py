"""A stage before layer 0 taken where images are encoded: fewer features, so that prompts themselves are shorter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from autoprune.engines.vllm.scores import rows_where
from autoprune.runtime.criteria import ScoreInputs, behaviour_of
from autoprune.runtime.survivors import choose, merged
from autoprune.schedule import Criterion, Stage

BY_PLACE = ("uniform", "random")
"""Criteria that look at places alone: they choose before anything is encoded, among all images of a prompt."""
BY_FEATURE = ("diversity", "codebook")
"""Criteria that look at features: they choose among those of one image."""

ALONE = (0, 0)
"""Span of the only image of a prompt."""


def chosen(stage: Stage, hidden: Tensor, prepared: Tensor | None = None) -> Tensor:
    """Which visual tokens a stage before layer 0 keeps.

    Args:
        stage: The stage.
        hidden: [B, n, d], the visual tokens of B prompts as they enter the decoder; of width 0 for `BY_PLACE`.
        prepared: What its criterion has read from disk.

    Returns:
        BoolTensor[B, n].
    """
    return _choice(stage, hidden, prepared)[0]


def _choice(stage: Stage, hidden: Tensor, prepared: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which tokens are kept, and by which scores: [B, n] each."""
    assert stage.criterion is not None  # a stage that selects has one
    batch, n = hidden.shape[:2]
    every = torch.ones(batch, n, dtype=torch.bool, device=hidden.device)
    count = stage.keep.target(n, n)
    inputs = ScoreInputs(
        options=stage.criterion,
        candidates=every,
        visual=every,
        prompt=every,
        alive=every,
        last=torch.zeros_like(every),
        targets=torch.full((batch,), count, device=hidden.device),
        n_visual=(n,) * batch,
        n_text=(0,) * batch,
        n_prompt=(n,) * batch,
        n_candidates=(n,) * batch,
        n_targets=(count,) * batch,
        hidden=hidden,
        prepared=prepared,
    )
    scores = behaviour_of(stage.criterion).score(inputs)
    return choose(scores, every, inputs.targets), scores


def number_kept(stage: Stage, first: int, n: int, total: int) -> int:
    """Visual tokens of one image that are left.

    Args:
        stage: The stage.
        first: Visual tokens of the images before it in the prompt.
        n: Its own.
        total: Those of all images of the prompt; 0 if there is no other.
    """
    if total in (0, n):
        return stage.keep.target(n, n)
    return int(chosen(stage, torch.empty(1, total, 0))[0, first : first + n].sum())


def whole_prompt(
    stage: Stage, length: int, images: Sequence[tuple[int, int, tuple[int, int]]]
) -> tuple[Tensor, list[int], int]:
    """A prompt as it was before a stage of `BY_PLACE` shortened it.

    Args:
        stage: The stage.
        length: Tokens of the shorter prompt.
        images: For each image, in order, where it begins in the shorter prompt, its visual tokens before the stage, and
            its span.

    Returns:
        Places that the tokens of the shorter prompt had, LongTensor[length]; where each image began; all tokens.
    """
    places: list[Tensor] = []
    starts: list[int] = []
    at = end = 0  # behind the last image: in the shorter prompt, and in the whole
    for first, n, (before, total) in images:
        every = chosen(stage, torch.empty(1, total or n, 0))[0, before : before + n]
        places.append(torch.arange(end, end + first - at))
        starts.append(end + first - at)
        places.append(starts[-1] + every.nonzero()[:, 0])
        at, end = first + int(every.sum()), starts[-1] + n
    places.append(torch.arange(end, end + length - at))
    return torch.cat(places), starts, end + length - at


def shorten(
    stage: Stage, features: Sequence[Tensor], spans: Sequence[tuple[int, int]], prepared: Mapping[Criterion, Tensor]
) -> tuple[list[Tensor], Tensor]:
    """The features that are left of each image.

    Args:
        stage: The stage.
        features: [n, d] of each image.
        spans: For each image the visual tokens of the images before it in its prompt, and of all images of the prompt;
            `ALONE` for the only image of a prompt.
        prepared: What criteria have read from disk.

    Returns:
        Them; and BoolTensor[images], whether features of an image, or their scores, are not finite.
    """
    assert stage.criterion is not None  # a stage that selects has one
    alike: dict[tuple[int, int, int], list[int]] = {}
    for i, (part, (first, total)) in enumerate(zip(features, spans, strict=True)):
        alike.setdefault((len(part), first, total or len(part)), []).append(i)
    out: dict[int, Tensor] = {}
    broken: dict[int, Tensor] = {}
    for (n, first, total), images in alike.items():
        together = torch.stack([features[i] for i in images])
        hidden = together if n == total else together.new_empty(len(images), total, 0)
        every, scores = _choice(stage, hidden, prepared.get(stage.criterion))
        kept, own = every[:, first : first + n], scores[:, first : first + n]
        finite = torch.isfinite(together).all(2) & torch.isfinite(own).to(together.device)
        broken |= dict(zip(images, ~finite.all(1), strict=True))
        if stage.merge:
            count = stage.keep.target(n, n)
            together = merged(together, kept, ~kept, count, n - count)
        left = number_kept(stage, first, n, total)
        out |= {i: rows[rows_where(mask, left)] for i, rows, mask in zip(images, together, kept, strict=True)}
    order = range(len(features))
    return [out[i] for i in order], torch.stack([broken[i] for i in order])
