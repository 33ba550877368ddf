"""Arms in turn: whatever happens to the machine happens to all of them, and they are compared within a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from autoprune.bench.results import Overhead
from autoprune.bench.workload import Times, Workload
from autoprune.evaluate.timing import Spread


@dataclass(frozen=True)
class Runner:
    """One way to run the model.

    Attributes:
        patched: Puts the model into that state.
        decodes: Whether decode steps are timed as well.
    """

    patched: Callable[[], AbstractContextManager[Any]]
    decodes: bool


def take_turns(
    load: Workload, runners: Mapping[str, Runner], warmup: int, repeats: int, on_step: Callable[[str], None]
) -> dict[str, list[Times]]:
    """Run every arm once per round, each round beginning with another arm.

    Returns:
        For each arm its times, one of each timed round.
    """
    times: dict[str, list[Times]] = {name: [] for name in runners}
    names = list(runners)
    for turn in range(warmup + repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            on_step(f"round {turn + 1} of {warmup + repeats}: {name}")
            with runners[name].patched():
                taken, _ = load.run(decode=runners[name].decodes)
            if turn >= warmup:
                times[name].append(taken)
    return times


def ratio(above: Sequence[Times], below: Sequence[Times]) -> list[float]:
    """Decoder time of one arm over that of another, round by round."""
    return [a.decoder_ms / b.decoder_ms for a, b in zip(above, below, strict=True)]


def overhead(longer: Sequence[float], shorter: Sequence[float], dense: Sequence[float]) -> Overhead:
    """How much longer one arm takes than another, round by round."""
    extra = [a - b for a, b in zip(longer, shorter, strict=True)]
    return Overhead(Spread.of(extra), Spread.of([e / d for e, d in zip(extra, dense, strict=True)]))
