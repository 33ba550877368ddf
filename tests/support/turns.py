"""The masked reference over several turns that share a cache: each prunes the visual tokens that it brings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from support.reference import MaskedReference
from torch import Tensor

from autoprune.schedule import Schedule


class TurnsReference(MaskedReference):
    """As MaskedReference, for calls that bring `lengths` columns one after the other; later calls are decode steps.

    Args:
        visual: BoolTensor[B, sum(lengths)].
        valid: BoolTensor[B, sum(lengths)].
    """

    def __init__(self, model: Any, schedule: Schedule, visual: Tensor, valid: Tensor, lengths: list[int]) -> None:
        super().__init__(model, schedule, visual, valid)
        self.whole = SimpleNamespace(visual=self.visual, prompt=self.prompt)
        self.lengths = lengths
        self.dead = {i: torch.zeros_like(self.visual) for i in range(model.config.get_text_config().num_hidden_layers)}

    def _pre(self, i: int) -> Any:
        turns = iter([(sum(self.lengths[:t]), sum(self.lengths[: t + 1])) for t in range(len(self.lengths))])

        def pre(layer: Any, args: Any, kwargs: Any) -> Any:
            hidden = args[0] if args else kwargs["hidden_states"]
            start, end = next(turns, (None, None))
            if end is not None:
                assert hidden.shape[1] == end - start
                if i:
                    self.dead[i][:, start:end] = self.dead[i - 1][:, start:end]
                if i in self.stages:
                    self._decide_turn(i, layer, hidden, kwargs, start, end)
            cache = kwargs.get("past_key_values")
            return args, {**kwargs, "attention_mask": self._masked(kwargs["attention_mask"], i, cache, hidden)}

        return pre

    def _decide_turn(self, k: int, layer: Any, hidden: Tensor, kwargs: dict[str, Any], start: int, end: int) -> None:
        """Decide as in one pass over all columns, of which the other turns' hold nothing."""
        own = torch.zeros_like(self.whole.visual)
        own[:, start:end] = True
        self.visual, self.prompt = self.whole.visual & own, self.whole.prompt & own
        if k and k - 1 in self.maps:
            self.maps[k - 1] = self._square(self.maps[k - 1], start, end)
        states = torch.zeros(*own.shape, hidden.shape[-1])
        states[:, start:end] = hidden
        self._decide(k, layer, (states,), kwargs)

    def _square(self, weights: Tensor, start: int, end: int) -> Tensor:
        """Attention [B, H, end - start, kv] of a turn, where all turns' rows and columns stand."""
        total = self.whole.visual.shape[1]
        square = torch.zeros(*weights.shape[:2], total, total)
        square[:, :, start:end, end - weights.shape[-1] : end] = weights
        return square
