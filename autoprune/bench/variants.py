"""Variants that explain the time of a schedule: variants of itself, and the least that its token counts cost.

The least possible cost is that of the stock layers on as many tokens, with nothing scored, gathered or written back:
the sequence is cut off at its end, which is a view and no copy. The output means nothing; the time is what any
implementation of the schedule would still take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from autoprune.runtime.decoder import decoder_layers
from autoprune.runtime.replay import hooked
from autoprune.schedule import Keep, Schedule, UniformCriterion


def evenly_chosen(schedule: Schedule, left: Sequence[int]) -> Schedule:
    """The same schedule with evenly spaced survivors, as many of them: the difference in time is that of the scores.

    Args:
        schedule: What is timed.
        left: Visual tokens after each of its stages.
    """
    stages = [
        stage.model_copy(update={"keep": Keep(count=count), "criterion": UniformCriterion(name="uniform")})
        if stage.selects
        else stage
        for stage, count in zip(schedule.stages, left, strict=True)
    ]
    return schedule.model_copy(update={"stages": tuple(stages)})


def keeping_all(schedule: Schedule, visual_tokens: int) -> Schedule:
    """The same schedule with every score computed and every choice made, but all tokens chosen."""
    stages = [
        stage.model_copy(update={"keep": Keep(count=visual_tokens) if stage.selects else Keep(ratio=1.0)})
        for stage in schedule.stages
    ]
    return schedule.model_copy(update={"stages": tuple(stages)})


@contextmanager
def shortened(decoder: nn.Module, tokens: Sequence[int]) -> Iterator[None]:
    """Run layer i of the text model on the first ``tokens[i]`` tokens of a prefill; decode steps run as they are."""
    with ExitStack() as stack:
        for i, (layer, n) in enumerate(zip(decoder_layers(decoder), tokens, strict=True)):
            stack.enter_context(hooked(layer, before=_Shortened(i, n)))
        yield


class _Shortened:
    """The arguments of one layer, cut down to its first tokens."""

    def __init__(self, index: int, tokens: int) -> None:
        self._index, self._tokens = index, tokens

    def __call__(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden: Tensor = args[0] if args else kwargs["hidden_states"]
        n = min(self._tokens, hidden.shape[1])
        new = dict(kwargs)
        if args:
            args = (hidden[:, :n], *args[1:])
        else:
            new["hidden_states"] = hidden[:, :n]
        places = kwargs.get("position_embeddings")
        if isinstance(places, tuple):
            new["position_embeddings"] = tuple(t[..., :n, :] for t in places)
        if isinstance(kwargs.get("position_ids"), Tensor):
            new["position_ids"] = kwargs["position_ids"][..., :n]
        mask = kwargs.get("attention_mask")
        if isinstance(mask, Tensor) and mask.ndim == 4:
            new["attention_mask"] = mask[..., :n, : n + self._held(kwargs)]
        return args, new

    def _held(self, kwargs: dict[str, Any]) -> int:
        layers = getattr(kwargs.get("past_key_values"), "layers", ())
        keys = getattr(layers[self._index], "keys", None) if self._index < len(layers) else None
        return 0 if keys is None else int(keys.shape[-2])
