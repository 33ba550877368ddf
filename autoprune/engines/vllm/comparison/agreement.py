"""Whether vLLM agrees with transformers under a schedule: tokens in each layer, answers, log-probabilities.

How far apart two exact runs may be is what the dense model shows on the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

from autoprune.doctor.outcomes import Outcome, compared, failed, inapplicable, passed
from autoprune.engines.vllm.comparison.asked import EngineAnswer
from autoprune.schedule import Schedule

CLOSE = 1e-4
"""Difference of a log-probability in single precision that is always allowed."""
_MORE = 1.5
"""Disagreement under a schedule over that of the dense model that is allowed."""
_RARE = 0.05
"""What is likelier by chance is not held against a schedule."""
_DRAWN = 3
"""Difference over the largest of a few draws of rounding that is allowed."""


@dataclass(frozen=True)
class ComparedRuns:
    """Answers to the same rows, row by row.

    Attributes:
        schedule: The schedule of the pruned ones.
        dense: Of transformers, and of vLLM.
        pruned: Likewise.
        half: Whether the models are in half precision.
        rounding: By row, how far rounding moves its log-probabilities under the schedule, where that was measured.
    """

    schedule: Schedule
    dense: tuple[Sequence[EngineAnswer], Sequence[EngineAnswer]]
    pruned: tuple[Sequence[EngineAnswer], Sequence[EngineAnswer]]
    half: bool = False
    rounding: Mapping[int, float] = field(default_factory=dict)

    @property
    def planned(self) -> list[tuple[int, ...]]:
        """For each row the tokens in each layer that the schedule leaves of it, from numbers alone."""
        return [planned_lengths(self.schedule, answer) for answer in self.dense[0]]


def planned_lengths(schedule: Schedule, dense: EngineAnswer) -> tuple[int, ...]:
    """Tokens in each layer that a schedule leaves of a prompt.

    Args:
        schedule: Its keep rules do not depend on scores.
        dense: The answer of the dense model on transformers.
    """
    n_visual, lengths = dense.n_visual or 0, list(dense.lengths)
    alive = n_visual
    for stage in schedule.stages if n_visual else ():
        alive = stage.keep.target(n_visual, alive)
        lengths[stage.layer :] = [n - n_visual + alive for n in dense.lengths[stage.layer :]]
    return tuple(lengths)


@dataclass(frozen=True)
class Disagreement:
    """How far two sets of answers are apart.

    Attributes:
        rows: Rows whose answers have other tokens.
        largest: Largest difference of a log-probability, up to where answers part; NaN if there is none.
        mean: Mean difference.
    """

    rows: int
    largest: float
    mean: float


def disagreement(known: Sequence[EngineAnswer], others: Sequence[EngineAnswer]) -> Disagreement:
    """How far answers are from those of which more log-probabilities are known."""
    pairs = list(zip(known, others, strict=True))
    apart = [difference for pair in pairs for difference in _differences(*pair)]
    mean = fmean(apart) if apart else math.nan
    largest = mean if math.isnan(mean) else max(apart)  # max() may pass over a NaN
    return Disagreement(sum(one.ids != other.ids for one, other in pairs), largest, mean)


def _differences(known: EngineAnswer, other: EngineAnswer) -> Iterator[float]:
    for token, other_token, table, seen in zip(known.ids, other.ids, known.logprobs, other.logprobs, strict=False):
        least = min(table.values())
        for candidate, value in seen.items():
            # A token that is not among the likeliest is no likelier than the last of them.
            wanted = table.get(candidate, min(value, least))
            yield 0.0 if value == wanted else abs(value - wanted)
        if token != other_token:
            return  # from here on they answer from different texts


def stages_fired(runs: ComparedRuns) -> Outcome:
    """Whether vLLM has fewer tokens behind every stage, where the schedule says so."""
    silent, idle = [], []
    for stage in runs.schedule.stages:
        drops = [_drop(lengths, stage.layer, dense) for lengths, dense in zip(runs.planned, runs.dense[0], strict=True)]
        found = [
            _drop(answer.lengths, stage.layer, dense)
            for answer, dense in zip(runs.pruned[1], runs.dense[1], strict=True)
        ]
        if any(wanted > 0 >= got for wanted, got in zip(drops, found, strict=True)):
            silent.append(stage.layer)
        elif not any(drops) and stage.keep.ratio != 1:
            idle.append(stage.layer)
    if silent:
        return failed(f"no token was dropped before layers {silent}")
    if idle:
        return inapplicable(f"no row has enough visual tokens for the stages before layers {idle}")
    return passed(f"{len(runs.schedule.stages)} stages, {len(runs.planned)} rows")


def _drop(lengths: Sequence[int], layer: int, dense: EngineAnswer) -> int:
    """Tokens that are in the layer before and not in this one."""
    return (lengths[layer - 1] if layer else dense.lengths[0]) - lengths[layer]


def tokens_per_layer(runs: ComparedRuns) -> Outcome:
    """Whether both engines have as many tokens in every layer as the schedule says."""
    for name, answers in zip(("transformers", "vLLM"), runs.pruned, strict=True):
        for row, (wanted, answer) in enumerate(zip(runs.planned, answers, strict=True)):
            if answer.lengths != wanted:
                return failed(f"row {row} in {name}: {list(answer.lengths)}, the schedule says {list(wanted)}")
    return passed(f"as the schedule says in all {len(runs.planned)} rows; the first: {list(runs.planned[0])}")


def same_answers(runs: ComparedRuns) -> Outcome:
    """Whether no more answers have other tokens than of the dense model; in half precision chance has its share."""
    dense, pruned = disagreement(*runs.dense).rows, disagreement(*runs.pruned).rows
    most = math.floor(_MORE * (max(dense, 1) if runs.half else dense))
    total = len(runs.planned)
    figures = f"other tokens in {pruned} of {total} rows, {most} allowed; of the dense model in {dense}"
    if pruned <= most:
        return passed(figures)
    chance = _chance(dense, pruned) if runs.half else 0.0
    if chance >= _RARE:
        return inapplicable(f"{figures}; so many by chance in {chance:.0%} of such runs: give more rows")
    return failed(figures)


def _chance(dense: int, pruned: int) -> float:
    """Probability of so many pruned rows or more among all that disagree, if `_MORE` times as many as dense ones do."""
    n, share = dense + pruned, _MORE / (1 + _MORE)
    return sum(math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(pruned, n + 1))


def log_probabilities(runs: ComparedRuns) -> Outcome:
    """Whether log-probabilities are no farther apart than those of the dense model, or than rounding moves a row."""
    by_noise = [row for row in far_rows(runs) if _row(runs, row) <= _DRAWN * runs.rounding.get(row, 0.0)]
    others = [row for row in range(len(runs.planned)) if row not in by_noise]
    pruned = [[answers[row] for row in others] for answers in runs.pruned]
    apart, effect = (_measure(disagreement(*pair), runs.half) for pair in (pruned, (runs.dense[0], runs.pruned[0])))
    found = compared(
        apart if others else 0.0, _limit(runs), effect, "mean difference" if runs.half else "largest difference"
    )
    if not by_noise:
        return found
    rows = ", ".join(f"{row} ({_row(runs, row):.1e})" for row in by_noise)
    return replace(found, reason=f"{found.reason}; apart no farther than rounding moves them: rows {rows}")


def far_rows(runs: ComparedRuns) -> list[int]:
    """Rows whose log-probabilities are farther apart than is allowed; in half precision rows are not judged alone."""
    limit = _limit(runs)
    return [] if runs.half else [row for row in range(len(runs.planned)) if not _row(runs, row) <= limit]


def _row(runs: ComparedRuns, row: int) -> float:
    """How far the log-probabilities of a row are apart under the schedule."""
    known, found = runs.pruned
    return disagreement([known[row]], [found[row]]).largest


def _limit(runs: ComparedRuns) -> float:
    most = _MORE * _measure(disagreement(*runs.dense), runs.half)
    return most if runs.half else max(CLOSE, most)


def _measure(apart: Disagreement, half: bool) -> float:
    """In half precision the largest difference is chance."""
    return apart.mean if half else apart.largest


CHECKS: Mapping[str, Callable[[ComparedRuns], Outcome]] = {
    "every stage fired": stages_fired,
    "tokens per layer": tokens_per_layer,
    "answers": same_answers,
    "log-probabilities": log_probabilities,
}
"""What must hold, by name."""
