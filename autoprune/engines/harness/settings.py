"""What a harness asks of a model, in our terms: a schedule by its name, greedy decoding, and where an answer stops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autoprune.errors import EvaluationError
from autoprune.schedule import Schedule

_LONGEST = 1024
"""Longest answer where a task does not say, in tokens: lmms-eval's own models take the same."""


def schedule_of(name: str) -> Schedule | None:
    """The schedule of a harness's argument: a file; ``dense`` = nothing is pruned; empty = the file beside the weights.

    Raises:
        ScheduleError: the file is no schedule.
    """
    if name == "dense":
        return Schedule()
    return Schedule.load(name) if name else None


def batch_size_of(given: int | str) -> int:
    """Prompts that run together, from ``--batch_size``.

    Raises:
        EvaluationError: it is no number, such as ``auto``.
    """
    if isinstance(given, int) or given.isdecimal():
        return max(1, int(given))
    raise EvaluationError("must be a number here", field="--batch_size", value=given, remedy="give --batch_size 4")


def check_one_process(environment: Mapping[str, str]) -> None:
    """Refuse several processes, each of which would answer all requests.

    Raises:
        EvaluationError: with the variable by which launchers say how many there are.
    """
    if environment.get("WORLD_SIZE", "1") != "1":
        raise EvaluationError(
            "answers come from one process",
            field="WORLD_SIZE",
            value=environment["WORLD_SIZE"],
            remedy="start `python -m lmms_eval` without accelerate or torchrun",
        )


def check_greedy_arguments(arguments: Mapping[str, Any]) -> tuple[int, Sequence[str]]:
    """Longest answer in tokens and stop strings of a request.

    Raises:
        EvaluationError: the task samples or searches by beams.
    """
    sampled = arguments.get("do_sample", (arguments.get("temperature") or 0) > 0)
    beams = arguments.get("num_beams") or 1
    for name, value, wrong in (("do_sample", sampled, bool(sampled)), ("num_beams", beams, beams > 1)):
        if wrong:
            raise EvaluationError(
                "answers are greedy here, so that dense and pruned ones can be compared",
                field=name,
                value=value,
                remedy="override it: --gen_kwargs do_sample=False,num_beams=1",
            )
    stops = arguments.get("until") or ()
    return int(arguments.get("max_new_tokens") or _LONGEST), (stops,) if isinstance(stops, str) else tuple(stops)


def shortened_at(answer: str, stops: Sequence[str]) -> str:
    """An answer up to the first of its stop strings."""
    ends = [place for stop in stops if stop and (place := answer.find(stop)) >= 0]
    return answer[: min(ends)] if ends else answer
