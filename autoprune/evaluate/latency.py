"""Milliseconds of dense and pruned runs, measured side by side.

All arms take turns inside every round, so that a machine that slows down or warms up does so for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from autoprune.errors import DataError
from autoprune.evaluate.timing import Spread, synchronize
from autoprune.runtime import apply
from autoprune.schedule import Schedule


@dataclass(frozen=True)
class Latency:
    """Times of one arm, for the whole batch of inputs.

    Attributes:
        prefill_ms: Median of the prefill: vision tower, projector, decoder with scoring, one head row.
        end_to_end_ms: Median of ``generate()`` for exactly the new tokens asked for; None if none were.
        spread: Interquartile range of the prefill, ms.
        end_to_end_spread: Interquartile range of ``generate()``, ms; None if no new tokens were asked for.
    """

    prefill_ms: float
    end_to_end_ms: float | None
    spread: float
    end_to_end_spread: float | None


def time_prefill(
    model: nn.Module,
    inputs: Mapping[str, Any],
    schedules: Sequence[Schedule | None],
    repeats: int = 5,
    warmup: int = 1,
    new_tokens: int = 0,
) -> list[Latency]:
    """Time a prefill, and a whole generation if new tokens are asked for, under each schedule.

    Args:
        model: A stock model; a patch that it has is removed, and it is left without one.
        inputs: Model inputs, optionally with ``visual_mask`` for inputs that do not mark their visual tokens.
        schedules: The arms; None is the dense, unpatched model.
        repeats: Timed rounds.
        warmup: Rounds before them that are not timed.
        new_tokens: Tokens to generate in the end-to-end run; 0 = time the prefill only.

    Returns:
        One `Latency` per schedule, in their order.

    Raises:
        DataError: `repeats` is below 1, or `warmup` or `new_tokens` below 0.
    """
    for field, value, least in (("repeats", repeats, 1), ("warmup", warmup, 0), ("new_tokens", new_tokens, 0)):
        if value < least:
            raise DataError(f"must be at least {least}", field=field, value=value)
    given = dict(inputs)
    visual_mask = given.pop("visual_mask", None)
    apply(model, Schedule()).remove()  # replaces a patch left on the model, which would pass for dense
    prefill: list[list[float]] = [[] for _ in schedules]
    end_to_end: list[list[float]] = [[] for _ in schedules]
    for turn in range(warmup + repeats):
        for position in range(len(schedules)):
            arm = (position + turn) % len(schedules)  # nobody is always the one after the dense run
            with _patched(model, schedules[arm], visual_mask):
                first = _milliseconds(model, lambda: model(**given, use_cache=True, logits_to_keep=1))
                whole = _milliseconds(model, lambda: _generate(model, given, new_tokens)) if new_tokens else None
            if turn >= warmup:
                prefill[arm].append(first)
                end_to_end[arm].extend([] if whole is None else [whole])
    return [_summary(*times) for times in zip(prefill, end_to_end, strict=True)]


def _patched(model: nn.Module, schedule: Schedule | None, visual_mask: Any) -> AbstractContextManager[Any]:
    return nullcontext() if schedule is None else apply(model, schedule, visual_mask)


def _generate(model: Any, inputs: Mapping[str, Any], new_tokens: int) -> None:
    model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, num_beams=1)


def _milliseconds(model: nn.Module, call: Callable[[], Any]) -> float:
    device = next(model.parameters()).device
    with torch.no_grad():
        synchronize(device)
        started = time.perf_counter()
        call()
        synchronize(device)
        return 1000 * (time.perf_counter() - started)


def _summary(prefill: Sequence[float], end_to_end: Sequence[float]) -> Latency:
    first, whole = Spread.of(prefill), Spread.of(end_to_end) if end_to_end else None
    return Latency(
        prefill_ms=first.median,
        end_to_end_ms=whole.median if whole else None,
        spread=first.iqr,
        end_to_end_spread=whole.iqr if whole else None,
    )
