"""Rows of prepared batches put together to other batches, so that a part of the rows costs a part of the time.

Embeddings, dense answers and scores are cut out of the batches in which the rows were prepared; images are not encoded
again. The dense pass over the new batch is run once, and checked against what the rows gave before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from autoprune.evaluate.batch import BatchTensors
from autoprune.evaluate.candidate import RecordedBatch
from autoprune.evaluate.encoding import Forced
from autoprune.evaluate.greedy import GreedyAnswers
from autoprune.evaluate.planning import kind_of, row_count
from autoprune.evaluate.prefix import DensePrefix, same_logits

Part = tuple[RecordedBatch, list[int]]
"""A batch, and places of some of its samples."""
_KEPT = 2  # rows of regrouped batches that are kept, as a multiple of all rows


class Regrouping:
    """Batches for any part of the rows.

    Args:
        batches: The batches in which all rows were prepared.
        batch_size: Rows that run together.
        restore: Computes the tensors of a batch again, if they were released.
    """

    def __init__(
        self, batches: Sequence[RecordedBatch], batch_size: int, restore: Callable[[RecordedBatch], None]
    ) -> None:
        self._batches, self._batch_size, self._restore = batches, batch_size, restore
        self._home = {index: (batch, place) for batch in batches for place, index in enumerate(batch.indices)}
        self._joined: list[RecordedBatch] = []
        self._works = True

    def covering(
        self, wanted: Collection[int], paused: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Iterator[RecordedBatch]:
        """Batches that hold these rows, and no others where the model allows it; each is made when it is asked for.

        Args:
            wanted: Places of the samples in their set.
            paused: Block in which the model runs without what its user has put on it.
        """
        left = set(wanted)
        for batch in sorted([*self._batches, *self._joined], key=lambda batch: -len(batch.indices)):
            if left.issuperset(batch.indices):
                left.difference_update(batch.indices)
                yield batch
        for parts in list(self._parts(left)) if left and self._works else []:
            with paused():
                new = self._join(parts)
            if new is None:
                self._works = False
                break
            left.difference_update(new.indices)
            self._remember(new)
            yield new
        yield from (batch for batch in self._batches if not left.isdisjoint(batch.indices))

    def _join(self, parts: list[Part]) -> RecordedBatch | None:
        for batch, _ in parts:
            self._restore(batch)
        return joined(parts)

    def _parts(self, indices: Collection[int]) -> Iterator[list[Part]]:
        """Rows of similar length, as many as run together."""

        def length(index: int) -> tuple[tuple[bool, bool], int, int]:
            batch, place = self._home[index]
            counts = batch.counts[place]
            return kind_of(batch.samples[place]), counts.visual + counts.text + counts.new, index

        parts: dict[int, Part] = {}
        rows, kind = 0, (False, False)
        for index in sorted(indices, key=length):
            batch, place = self._home[index]
            taken, own = row_count(batch.samples[place]), kind_of(batch.samples[place])
            if parts and (rows + taken > self._batch_size or kind != own):
                yield list(parts.values())
                parts, rows = {}, 0
            parts.setdefault(id(batch), (batch, []))[1].append(place)
            rows, kind = rows + taken, own
        yield list(parts.values())

    def _remember(self, batch: RecordedBatch) -> None:
        self._joined.append(batch)
        while len(self._joined) > 1 and sum(len(b.indices) for b in self._joined) > _KEPT * len(self._home):
            del self._joined[0]


def joined(parts: Sequence[Part]) -> RecordedBatch | None:
    """Samples of several batches as one; None where the model's calls cannot be cut into rows.

    Args:
        parts: Batches of one kind, with the places of the samples.
    """
    rows = [_rows(batch, places) for batch, places in parts]
    forced = _forced(parts, rows)
    length, width = forced.inputs["attention_mask"].shape[1], forced.width
    passes = [batch.dense_pass for batch, _ in parts]
    call = _call(passes, rows, length)
    if call is None:
        return None

    def along(tensors: Sequence[Tensor]) -> Tensor:
        return _stacked(tensors, rows, length)

    prefix = DensePrefix(
        model=passes[0].model,
        forced=forced,
        position_ids=torch.cat([_last(p.position_ids[..., r, :], length, -1) for p, r in _with(passes, rows)], -2),
        text_call=call,
        logits=_stacked([p.logits for p in passes], rows, width),
        scores={key: along([p.scores[key] for p in passes]) for key in passes[0].scores},
        visual_mask=along([p.visual_mask for p in passes]),
        handed=passes[0].handed,
    )
    if not same_logits(prefix.record_again(), prefix.logits, forced.valid):
        return None
    first = parts[0][0]
    owned = [(batch, row) for (batch, _), own in _with(parts, rows) for row in own.tolist()]
    continuations = [batch.continuations[row] for batch, row in owned]
    certain = [batch.reference.log_probabilities[row] for batch, row in owned if batch.reference is not None]
    return type(first)(
        indices=tuple(batch.indices[place] for batch, places in parts for place in places),
        samples=tuple(batch.samples[place] for batch, places in parts for place in places),
        reference=None if first.reference is None else GreedyAnswers(continuations, certain),
        continuations=continuations,
        tensors=BatchTensors({}, forced, prefix),
        vision_flops=[batch.vision_flops[place] for batch, places in parts for place in places],
        tokenizer=first.tokenizer,
        metric=first.metric,
    )


def _rows(batch: RecordedBatch, places: Sequence[int]) -> Tensor:
    starts = batch.first_rows
    rows = [row for place in places for row in range(starts[place], starts[place + 1])]
    return torch.tensor(rows, device=batch.forced.ends.device)


def _forced(parts: Sequence[Part], rows: Sequence[Tensor]) -> Forced:
    """Rows laid out as before: all end at the same column, so what is cut or added is padding on the left."""
    given = [batch.forced for batch, _ in parts]
    length = max(int(f.inputs["attention_mask"][own].sum(1).max()) for f, own in _with(given, rows))
    width = max(int(f.valid[own].sum(1).max()) for f, own in _with(given, rows))
    inputs = {name: _stacked([f.inputs[name] for f in given], rows, length) for name in ("input_ids", "attention_mask")}
    ends = [f.ends[own] - f.inputs["attention_mask"].shape[1] + length for f, own in _with(given, rows)]
    targets, valid = (_stacked(list(t), rows, width) for t in ([f.targets for f in given], [f.valid for f in given]))
    return Forced(inputs, torch.cat(ends), targets, valid)


def _call(passes: Sequence[DensePrefix], rows: Sequence[Tensor], length: int) -> dict[str, Any] | None:
    """The text model's call for the rows; None if an argument is not known to run along them."""
    call: dict[str, Any] = {}
    for name in passes[0].text_call:
        values = [p.text_call.get(name) for p in passes]
        joint = _argument(values, passes, rows, length)
        if joint is None and values[0] is not None:
            return None
        call[name] = joint
    return call


def _argument(values: Sequence[Any], passes: Sequence[DensePrefix], rows: Sequence[Tensor], length: int) -> Any:
    """An argument for the rows: [B, S, ...], [n, B, S], or one entry for each visual token; None if it is neither."""
    if isinstance(values[0], list | tuple):
        each = [_argument(list(part), passes, rows, length) for part in zip(*values, strict=True)]
        return None if any(part is None for part in each) else type(values[0])(each)
    if not isinstance(values[0], Tensor):
        plain = isinstance(values[0], str | int | float)
        return values[0] if plain and all(value == values[0] for value in values) else None
    shapes = [(tuple(value.shape), tuple(p.visual_mask.shape)) for value, p in zip(values, passes, strict=True)]
    if all(shape[:2] == batch and shape[2:3] != batch[1:] for shape, batch in shapes):
        return _stacked(values, rows, length)
    if all(len(shape) == 3 and shape[1:] == batch for shape, batch in shapes):
        return torch.cat([_last(value[:, own], length, -1) for value, own in _with(values, rows)], 1)
    counts = [p.visual_mask.sum(1) for p in passes]
    if all(len(value) == int(count.sum()) for value, count in zip(values, counts, strict=True)):
        split = [value.split(count.tolist()) for value, count in zip(values, counts, strict=True)]
        return torch.cat([own[row] for own, picked in _with(split, rows) for row in picked.tolist()])
    return None


def _stacked(tensors: Sequence[Tensor], rows: Sequence[Tensor], length: int) -> Tensor:
    """Rows of tensors [B, S, ...] as one, their columns counted from the end."""
    return torch.cat([_last(t[own.to(t.device)], length, 1) for t, own in _with(tensors, rows)])


def _last(tensor: Tensor, length: int, dim: int) -> Tensor:
    """The last columns of a tensor, zeros before them where it has fewer."""
    have = tensor.shape[dim]
    if have >= length:
        return tensor.narrow(dim, have - length, length)
    behind = tensor.ndim - 1 - dim % tensor.ndim
    return pad(tensor, (*(0, 0) * behind, length - have, 0))


def _with(values: Sequence[Any], rows: Sequence[Tensor]) -> Iterator[tuple[Any, Tensor]]:
    return zip(values, rows, strict=True)
