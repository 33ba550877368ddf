"""Which samples run together: batches of one kind and of similar length, in steps that a race may stop between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from autoprune.data.rows import Sample
from autoprune.data.samples import SampleSet
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.rendering import render
from autoprune.evaluate.vision import visual_sizes


def plan_batches(processor: Any, data: SampleSet, order: Sequence[int], batch_size: int) -> list[tuple[int, ...]]:
    """Cuts `order` into batches.

    The first `batch_size`, 2·`batch_size`, 4·`batch_size` … samples of `order` are whole batches, so that a race which
    doubles its samples never pays for one that it did not ask for. Within such a step, samples of similar length share
    a batch, and those of one kind: samples with choices, which take one row per choice, are kept apart, and samples
    without images, of which no criterion scores anything.

    Returns:
        Tuples of indices into `data`.
    """
    lengths = prompt_lengths(processor, [data[index] for index in order])
    length = dict(zip(order, lengths, strict=True))
    batches: list[tuple[int, ...]] = []
    for step in _doubling(order, batch_size):
        for kind in sorted({kind_of(data[index]) for index in step}):
            alike = [index for index in step if kind_of(data[index]) == kind]
            alike.sort(key=lambda index: length[index])  # stable: equal lengths stay in the order asked for
            batches.extend(_fill(alike, [row_count(data[index]) for index in alike], batch_size))
    return batches


def kind_of(sample: Sample) -> tuple[bool, bool]:
    """What the samples of a batch have in common: whether they have choices, and whether they are text alone."""
    return sample.choices is not None, sample.is_text_only


def row_count(sample: Sample) -> int:
    """Rows of a batch that a sample takes."""
    return len(sample.choices) if sample.choices is not None else 1


def prompt_lengths(processor: Any, samples: Sequence[Sample]) -> list[int]:
    """Tokens of each prompt, placeholders expanded.

    How many placeholders an image or a video expands to depends on its size alone, so one sample per combination of
    sizes is encoded and its pixels are not prepared again for the others.
    """
    visual: dict[Any, int] = {}
    lengths = []
    for sample in samples:
        text = len(processor.tokenizer(render(processor, sample))["input_ids"])
        sizes = visual_sizes(sample)
        if sizes not in visual:
            visual[sizes] = int(encode(processor, [sample])["input_ids"].shape[1]) - text
        lengths.append(text + visual[sizes])
    return lengths


def _doubling(order: Sequence[int], first: int) -> Iterator[Sequence[int]]:
    start, end = 0, first
    while start < len(order):
        yield order[start:end]
        start, end = end, 2 * end


def _fill(indices: list[int], sizes: list[int], batch_size: int) -> Iterator[tuple[int, ...]]:
    batch: list[int] = []
    used = 0
    for index, size in zip(indices, sizes, strict=True):
        if batch and used + size > batch_size:
            yield tuple(batch)
            batch, used = [], 0
        batch.append(index)
        used += size
    if batch:
        yield tuple(batch)
