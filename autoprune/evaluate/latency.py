"""Latency of prefill and generation under several schedules, measured side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from autoprune.errors import DataError
from autoprune.evaluate.timing import Spread, milliseconds, take_turns
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
    """Time a prefill, and a whole generation if new tokens are asked for, under each schedule in turn.

    Args:
        model: A stock model; a patch that it has is removed, and it is left without one.
        inputs: Model inputs, optionally with ``visual_mask`` for inputs that do not mark their visual tokens.
        schedules: The arms; None is the dense, unpatched model.
        repeats: Timed rounds.
        warmup: Prefills that are not timed, in each turn before the one that is, under the same patch. The first
            prefill of a patch that scores by the vision tower encodes the images twice, to learn where their patches
            go; a served model does that once per image shape, not once per prompt.
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
    device = next(model.parameters()).device
    apply(model, Schedule()).remove()  # replaces a patch left on the model, which would pass for dense

    def prefill() -> None:
        model(**given, use_cache=True, logits_to_keep=1)

    def measure(schedule: Schedule | None) -> tuple[float, float | None]:
        with _patched(model, schedule, visual_mask), torch.no_grad():
            for _ in range(warmup):
                prefill()
            first = milliseconds(device, prefill)
            if not new_tokens:
                return first, None
            return first, milliseconds(device, partial(_generate, model, given, new_tokens))

    arms = {i: partial(measure, schedule) for i, schedule in enumerate(schedules)}
    return [_summary(times) for times in take_turns(arms, repeats).values()]


def prefills_per_arm(repeats: int = 5, warmup: int = 1, new_tokens: int = 0) -> int:
    """Prefills of the whole batch that `time_prefill` runs under each schedule, those that are not timed included."""
    return repeats * (warmup + 1 + bool(new_tokens))


def _patched(model: nn.Module, schedule: Schedule | None, visual_mask: Any) -> AbstractContextManager[Any]:
    return nullcontext() if schedule is None else apply(model, schedule, visual_mask)


def _generate(model: Any, inputs: Mapping[str, Any], new_tokens: int) -> None:
    model.generate(**inputs, max_new_tokens=new_tokens, min_new_tokens=new_tokens, do_sample=False, num_beams=1)


def _summary(times: Sequence[tuple[float, float | None]]) -> Latency:
    prefill = Spread.of([first for first, _ in times])
    generated = [whole for _, whole in times if whole is not None]
    whole = Spread.of(generated) if generated else None
    return Latency(
        prefill_ms=prefill.median,
        end_to_end_ms=whole.median if whole else None,
        spread=prefill.iqr,
        end_to_end_spread=whole.iqr if whole else None,
    )
