"""Behaviour of criteria: ``score`` from tensors and ``macs`` from plain numbers, in a file with the criterion's name.

The declaration of the same name stands in ``autoprune.schedule.criteria``. A criterion of another package brings both
in one class.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol, cast

from torch import Tensor, nn

from autoprune.errors import PatchError
from autoprune.runtime.tap import Softmax
from autoprune.schedule import Criterion, PluginCriterion

_PLAIN = Softmax()


@dataclass(frozen=True)
class ScoreInputs:
    """Inputs of a score: B samples of S positions, before a stage drops anything.

    Attributes:
        options: The criterion as declared.
        candidates: BoolTensor[B, S], visual tokens alive: those to choose among.
        visual: BoolTensor[B, S], all visual tokens of the prompts.
        prompt: BoolTensor[B, S], tokens of the prompts, padding and answers excluded.
        alive: BoolTensor[B, S], tokens that no earlier stage dropped, padding excluded.
        last: BoolTensor[B, S], the last prompt token of each sample.
        targets: LongTensor[B], how many candidates will be kept; all of them where that depends on the scores.
        n_visual: Visual tokens of each sample, on the host.
        n_text: Text tokens of each sample after its first visual one, on the host.
        n_prompt: Prompt tokens of each sample, visual ones included, on the host.
        n_candidates: Candidates of each sample, on the host.
        n_targets: `targets` on the host.
        hidden: [B, S, d], hidden states entering the stage's layer.
        query: [B, H, n, d_h], queries of the layer that is read, after rotary embedding; None where none is.
        key: [B, H_kv, N, d_h], its keys; the last n belong to the n queries, those before them are cached.
        mask: Its mask as the attention kernel gets it: None, or bool / additive [B or 1, 1 or H, n, N].
        softmax: How its products become weights.
        index: LongTensor[B, n], positions in S of the n queries; None = all S in order.
        present: BoolTensor[B, n], False at queries that fill up a ragged batch; None = all are tokens.
        raters: BoolTensor[B, S], words that match the image, where the criterion asks for them.
        tower: FloatTensor[B, S], attention that visual tokens receive inside the vision tower, where it is read.
        prepared: What the criterion read from disk: the prototypes [P, d] of a codebook.
    """

    options: Any
    candidates: Tensor
    visual: Tensor
    prompt: Tensor
    alive: Tensor
    last: Tensor
    targets: Tensor
    n_visual: tuple[int, ...]
    n_text: tuple[int, ...]
    n_prompt: tuple[int, ...]
    n_candidates: tuple[int, ...]
    n_targets: tuple[int, ...]
    hidden: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    mask: Tensor | None = None
    softmax: Softmax = _PLAIN
    index: Tensor | None = None
    present: Tensor | None = None
    raters: Tensor | None = None
    tower: Tensor | None = None
    prepared: Tensor | None = None


class ScoreWork(NamedTuple):
    """Sizes of scoring one sample, as plain numbers.

    Attributes:
        candidates: Visual tokens alive before the stage.
        tokens: Tokens alive in the layer that is read, text included.
        text_rows: Text tokens after the first visual one.
        width: Width of the hidden states.
        heads: Query heads of the layer that is read.
        query_width: Width of all its query heads together.
        qkv_macs: Multiply-adds of its query, key and value projections for one token.
    """

    candidates: int
    tokens: int
    text_rows: int
    width: int
    heads: int
    query_width: int
    qkv_macs: int


class Behaviour(Protocol):
    """Behaviour of a criterion: its scores and their price."""

    def score(self, inputs: ScoreInputs) -> Tensor:
        """FloatTensor[B, S], higher = kept first; values outside the candidates do not count.

        Must not read values back to the host.
        """

    def macs(self, work: ScoreWork, options: Any) -> int:
        """Multiply-adds of scoring one sample."""


def behaviour_of(criterion: Criterion) -> Behaviour:
    """The behaviour of a criterion, built in or of another package."""
    if isinstance(criterion, PluginCriterion):
        return _PluginBehaviour(type(criterion))
    return _built_in(criterion.name)


def prepared(criterion: Criterion, width: int, model: nn.Module) -> Tensor | None:
    """Tensor that a criterion needs from disk, read and checked before the first pass; None if it needs none.

    Args:
        criterion: The criterion; its behaviour may have a function ``prepare(options, width, model)``.
        width: Width of the decoder's hidden states.
        model: The model that is to be pruned.

    Raises:
        PatchError: it cannot be read, or does not fit the model.
    """
    prepare = getattr(behaviour_of(criterion), "prepare", None)
    found: Tensor | None = prepare(criterion, width, model) if prepare else None
    return found


@cache
def _built_in(name: str) -> Behaviour:
    return cast(Behaviour, importlib.import_module(f"autoprune.runtime.criteria.{name}"))


@dataclass(frozen=True)
class _PluginBehaviour:
    """The behaviour that a class of another package brings, held to its contract."""

    kind: Any

    def score(self, inputs: ScoreInputs) -> Tensor:
        scores = self.kind.score(inputs)
        shape = inputs.candidates.shape
        if not isinstance(scores, Tensor) or scores.shape != shape or not scores.is_floating_point():
            given = f"{scores.dtype} {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
            raise PatchError(
                f"score() must give a float tensor [batch, seq], here {list(shape)}",
                field="criterion.name",
                value=f"{inputs.options.name}: {given}",
                remedy="correct the package that brings it",
            )
        return scores.float()

    def macs(self, work: ScoreWork, options: Any) -> int:
        return int(self.kind.macs(work.candidates, work.tokens, work.width, work.heads, options))


__all__ = ["Behaviour", "ScoreInputs", "ScoreWork", "behaviour_of", "prepared"]
