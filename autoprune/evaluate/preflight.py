"""A look at a model on its data before anything long begins: its prompt, its tokens, its answers, time and memory."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import median
from typing import Any

from autoprune.data.samples import Sample, SampleSet
from autoprune.errors import AutopruneError
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.metrics import EXACT_MATCH, Metric
from autoprune.evaluate.planning import prompt_lengths
from autoprune.models.environment import peak_bytes
from autoprune.models.generation import settings_found
from autoprune.models.loading import LoadedModel
from autoprune.schedule import Criterion, Schedule

_REPEATED = 4  # tokens of one kind in a row that are written once, with their number
_OVERRULED = ("do_sample", "num_beams", "temperature", "top_p", "top_k")
"""Settings of a generation config that greedy decoding leaves unused."""


@dataclass(frozen=True)
class Preflight:
    """A model on its data, before a search.

    Attributes:
        prompt: The first row as the model sees it, special tokens included; a run of one token is written once.
        answer: The dense model's answer to it.
        accepted: What is right there; empty where the row does not say.
        template: How prompts are made: by the processor's chat template, or as bare text.
        tokens: ``min``, ``median`` and ``max`` of the tokens of a prompt, over all rows.
        visual_tokens: The same of its visual tokens, over the rows that were answered.
        generation: How answers are made, and the settings of the model that they depend on.
        rows: Rows that the dense model answered.
        judged: Those of them that say what is right.
        right: Accuracy on these; None if no row says what is right.
        problem: Why the model is no reference for accuracy: every row says what is right, and no answer is.
        doubt: The same where some rows do not say what is right, so that the dense model's answers count there.
        seconds: Time that all of it took.
        seconds_dense: Time to answer and record one row with the dense model.
        seconds_candidate: Time to measure one row under one schedule; None where none could be measured.
        recorded_bytes: Memory of one row's image features and recorded dense pass.
        peak_bytes: Largest memory so far: of the GPU, or else of the process.
        by_generating: Why schedules are scored by ``generate()``, and what that costs; None where they need not be.
    """

    prompt: str
    answer: str
    accepted: tuple[str, ...]
    template: str
    tokens: dict[str, float]
    visual_tokens: dict[str, float]
    generation: dict[str, Any]
    rows: int
    judged: int
    right: float | None
    seconds: float
    seconds_dense: float
    seconds_candidate: float | None
    recorded_bytes: int
    peak_bytes: int
    by_generating: str | None = None
    problem: str | None = None
    doubt: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The look as a JSON object."""
        return asdict(self)


def look(
    loaded: LoadedModel,
    data: SampleSet,
    order: Sequence[int],
    schedules: Sequence[Schedule] = (),
    *,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    criteria: Sequence[Criterion] = (),
    metric: Metric = EXACT_MATCH,
    until_right: bool = True,
) -> Preflight:
    """Answers the first rows with the dense model, and measures a few schedules on them.

    Args:
        loaded: The model.
        data: The rows.
        order: The order in which they are asked.
        schedules: Schedules whose measurement is timed; those that fail are passed over.
        batch_size: Rows that are asked first.
        max_new_tokens: Longest answer.
        criteria: Criteria whose scores are recorded.
        metric: Judges the answers.
        until_right: Whether further rows are asked, twice as many again and again, while no answer is right.

    Raises:
        DataError: rows that the processor refuses.
        EvaluationError: non-finite logits.
        ModelError: the model's answers are not plain greedy ones.
    """
    started = time.monotonic()
    rows = judged = 0
    right = 0.0
    first: tuple[Evaluator, float, SampleSet] | None = None
    for part in _doubling(order, batch_size):
        chunk = SampleSet.of([data[i] for i in part], data.name)
        evaluator = Evaluator(
            loaded, chunk, batch_size=batch_size, max_new_tokens=max_new_tokens, criteria=criteria, metric=metric
        )
        begun = time.monotonic()
        answers = evaluator.dense()
        first = first or (evaluator, (time.monotonic() - begun) / len(chunk), chunk)
        rows += len(chunk)
        verdicts = [result.correct for result in answers if _is_judged(chunk[result.index])]
        judged, right = judged + len(verdicts), right + sum(verdicts)
        if right or not until_right or not any(map(_is_judged, data)):
            break
    assert first is not None, "a data set has rows"
    evaluator, seconds_dense, chunk = first
    wrong = _nothing_right(evaluator, chunk, judged) if judged and not right and rows == len(data) else None
    counts = [counted.visual for counted in evaluator.prompts]
    return Preflight(
        prompt=seen_prompt(loaded.processor, chunk[0]),
        answer=evaluator.dense([0])[0].text,
        accepted=_accepted(chunk[0]),
        template="the processor's chat template" if getattr(loaded.processor, "chat_template", None) else "bare text",
        tokens=_quantiles(prompt_lengths(loaded.processor, data)),
        visual_tokens=_quantiles(counts),
        generation=_generation(loaded.model.generation_config, max_new_tokens),
        rows=rows,
        judged=judged,
        right=right / judged if judged else None,
        seconds_candidate=_timed(evaluator, schedules, len(chunk)),
        seconds_dense=seconds_dense,
        recorded_bytes=evaluator.recorded_bytes // len(chunk),
        peak_bytes=peak_bytes(loaded.model.device),
        by_generating=evaluator.by_generating,
        problem=wrong if judged == rows else None,
        doubt=wrong if judged < rows else None,
        seconds=time.monotonic() - started,
    )


def seen_prompt(processor: Any, sample: Sample) -> str:
    """The tokens of a prompt as text, special ones included; of a run of one token, one with the number of them."""
    ids = encode(processor, [sample])["input_ids"][0].tolist()
    pieces: list[str] = []
    plain: list[int] = []
    for token, run in groupby(ids):
        count = len(list(run))
        if count < _REPEATED:
            plain += [token] * count
            continue
        pieces += [_text(processor, plain), f"{_text(processor, [token])}×{count}"]
        plain = []
    return " ".join(piece for piece in (*pieces, _text(processor, plain)) if piece)


def _text(processor: Any, ids: list[int]) -> str:
    return str(processor.tokenizer.decode(ids, skip_special_tokens=False)) if ids else ""


def _is_judged(sample: Sample) -> bool:
    return bool(sample.answers) or sample.choices is not None


def _doubling(order: Sequence[int], first: int) -> Iterator[Sequence[int]]:
    start, end = 0, first
    while start < len(order):
        yield order[start:end]
        start, end = end, 2 * end


def _timed(evaluator: Evaluator, schedules: Sequence[Schedule], rows: int) -> float | None:
    taken = []
    for schedule in schedules:
        begun = time.monotonic()
        try:
            evaluator.evaluate(schedule)
        except AutopruneError:  # the search measures it again, and says why it fails
            continue
        taken.append((time.monotonic() - begun) / rows)
    return sum(taken) / len(taken) if taken else None


def _accepted(sample: Sample) -> tuple[str, ...]:
    return sample.answers if sample.choices is None else (sample.choices[sample.answer or 0],)


def _nothing_right(evaluator: Evaluator, chunk: SampleSet, judged: int) -> str:
    found = f"the dense model gets none of {judged} rows right, where nothing can be lost and any schedule looks free"
    index = next((i for i, sample in enumerate(chunk) if _is_judged(sample)), None)
    if index is None:
        return found
    said = evaluator.dense([index])[0].text
    return f"{found}: row {chunk[index].id} wants {_accepted(chunk[index])[0]!r:.80}, the model says {said!r:.80}"


def _generation(config: Any, max_new_tokens: int) -> dict[str, Any]:
    overruled = {name: value for name in _OVERRULED if (value := getattr(config, name, None)) not in (None, False, 1)}
    return {
        "decoding": "greedy",
        "max_new_tokens": max_new_tokens,
        **settings_found(config),
        **({"not used": overruled} if overruled else {}),
    }


def _quantiles(counts: Sequence[int]) -> dict[str, float]:
    return {"min": min(counts), "median": median(counts), "max": max(counts)}
