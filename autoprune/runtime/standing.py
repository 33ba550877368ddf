"""Tokens that the stages of one pass left alive, from which a later pass over the same batch can go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from autoprune.runtime.call import PassState
from autoprune.runtime.survivors import Survivors


@dataclass(frozen=True)
class Standing:
    """The tokens alive behind some stages.

    Attributes:
        alive: BoolTensor[B, S], as `PassState` has it.
        n_alive: Their number in each sample.
        n_candidates: Visual ones among them in each sample.
        survivors: The shortened view; None where nothing was dropped.
        counts: {layer of a stage that has run: visual tokens of each sample alive after it}.
    """

    alive: Tensor
    n_alive: tuple[int, ...]
    n_candidates: tuple[int, ...]
    survivors: Survivors | None
    counts: Mapping[int, tuple[int, ...]]

    @classmethod
    def of(cls, state: PassState) -> Self:
        """The tokens alive in a pass."""
        return cls(state.alive, state.n_alive, state.n_candidates, state.survivors, dict(state.counts))

    def restore(self, state: PassState) -> None:
        """Leave the same tokens alive in another pass over the same batch."""
        state.alive, state.n_alive, state.n_candidates = self.alive, self.n_alive, self.n_candidates
        state.survivors = None if self.survivors is None else self.survivors.again()
        state.counts = dict(self.counts)
