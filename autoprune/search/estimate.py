"""Time and memory that a study will take, estimated from a first look at its model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from autoprune.search.scope import Scope
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import Inputs

if TYPE_CHECKING:
    from autoprune.evaluate.preflight import Preflight

_CACHE_BYTES = 2 * 1024**3
"""Memory that an evaluator gives to image features and recorded passes."""
_CHUNK = 64
"""Held-out rows that a worker prepares together."""
_SHARE = 0.4
"""Share of trials × rows that a search with racing measures; in the study of this repository 38,400 of 97,280."""


@dataclass(frozen=True)
class Expected:
    """What a study will take.

    Attributes:
        seconds: Time of a run from its beginning; None where no candidate could be timed.
        memory_bytes: Largest memory of a worker.
    """

    seconds: float | None
    memory_bytes: int


def estimate(spec: StudySpec, inputs: Inputs, scope: Scope, found: Preflight) -> Expected:
    """The estimate for a study that begins.

    Args:
        spec: The study.
        inputs: Its data.
        scope: What it tries on this model.
        found: The first look at the model.
    """
    rows, held = inputs.calibration.size, inputs.validation.size if inputs.validation else 0
    recorded = min(_CACHE_BYTES, found.recorded_bytes * rows) - min(_CACHE_BYTES, found.recorded_bytes * found.rows)
    chunk = min(_CACHE_BYTES, found.recorded_bytes * min(_CHUNK, held))
    memory = found.peak_bytes + recorded + chunk
    if found.seconds_candidate is None:
        return Expected(None, memory)
    workers = max(1, spec.workers.count)
    share = _SHARE if spec.search.racing else 1.0
    forwards = spec.search.trials * rows * share
    if spec.search.row_forwards is not None:
        forwards = min(forwards, spec.search.row_forwards)
    searching = forwards * found.seconds_candidate / workers
    if spec.search.minutes is not None:
        searching = min(searching, 60 * spec.search.minutes)
    shown = 2 * len(scope.baselines) + 5  # each with the best point that costs no more, and points near dense
    judging = held * (found.seconds_dense + shown * found.seconds_candidate) / workers
    return Expected(found.seconds + rows * found.seconds_dense + searching + judging, memory)


def preflight_line(found: Preflight, expected: Expected) -> str:
    """The first look and the estimate in one line."""
    tokens = f"{found.tokens['min']:g} to {found.tokens['max']:g} tokens a row, median {found.tokens['median']:g}"
    judged = "no row says what is right" if found.right is None else f"{found.right:.1%} of {found.judged} rows right"
    return f"pre-flight: dense {judged}; {tokens}; expected: {amounts(expected.seconds, expected.memory_bytes)}"


def amounts(seconds: float | None, memory_bytes: int | None) -> str:
    """A duration and the memory of a worker in words, as far as they are known."""
    time = f"{seconds / 60:.1f} min" if seconds is not None else "a time that is not known"
    return time + (f", {memory_bytes / 1e9:.2f} GB a worker" if memory_bytes else "")
