"""Arithmetic of one step of a serving engine under a schedule: rows, cache entries and slots of each request.

A step runs the new tokens of several requests as one row of tokens: whole prompts, and single tokens of answers. After
a stage the layers see survivors only. Their keys and values lie without gaps in the first slots of the request's own
blocks, so that a request has as many entries in these layers as tokens that are left.

How many tokens a stage leaves is known from lengths alone; which ones, the device alone knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from autoprune.errors import PatchError
from autoprune.schedule import Keep

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ScheduledRequest:
    """The part of a step that belongs to one request.

    Attributes:
        name: Name of the request.
        rows: Its tokens that run in this step.
        computed: Its tokens that ran before, dropped ones included.
        n_prompt: Tokens of its prompt.
        visual: Where its visual tokens stand in the prompt, as half-open ranges.
    """

    name: str
    rows: int
    computed: int
    n_prompt: int
    visual: tuple[tuple[int, int], ...] = ()

    @property
    def n_visual(self) -> int:
        """Its visual tokens, all images together."""
        return sum(end - start for start, end in self.visual)

    @property
    def is_prefill(self) -> bool:
        """Whether its visual tokens run in this step; after a preemption answers that it has given run with them."""
        return self.computed == 0 and self.n_visual > 0


@dataclass(frozen=True)
class Segment:
    """Layers between two stages.

    Attributes:
        rows: Tokens of each request that run in these layers.
        entries: Cache entries of each request in these layers, those of this step included.
    """

    rows: Ints
    entries: Ints

    @property
    def starts(self) -> Ints:
        """Where the rows of each request begin, and at the end the number of all rows."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.rows)])

    @property
    def places(self) -> Ints:
        """The place of each row among the entries of its request."""
        owner = np.repeat(np.arange(len(self.rows)), self.rows)
        return np.arange(self.rows.sum()) - self.starts[owner] + (self.entries - self.rows)[owner]

    def slots(self, blocks: NDArray[np.int32], block_size: int) -> Ints:
        """The slot of each row in the cache.

        Args:
            blocks: [R, n], the blocks of each request.
            block_size: Slots in a block.
        """
        owner, places = np.repeat(np.arange(len(self.rows)), self.rows), self.places
        return blocks[owner, places // block_size].astype(np.int64) * block_size + places % block_size


@dataclass(frozen=True)
class StepPlan:
    """Sizes of one step.

    Attributes:
        requests: Its requests, in order.
        segments: Layers before the first stage, then those from each stage on.
        pruned: Which requests are pruned in this step.
        alive: For each of them the visual tokens that are left: at first, and after each stage.
    """

    requests: tuple[ScheduledRequest, ...]
    segments: tuple[Segment, ...]
    pruned: tuple[int, ...]
    alive: tuple[tuple[int, ...], ...]

    @property
    def is_dense(self) -> bool:
        """Whether every request has all of its tokens in every layer."""
        return all(np.array_equal(s.entries, self.segments[0].entries) for s in self.segments)

    def only(self, pruned: Sequence[int]) -> StepPlan:
        """The same step with some of the requests that it prunes, by their places among those."""
        chosen = [(self.pruned[i], self.alive[i]) for i in sorted(pruned)]
        return replace(self, pruned=tuple(i for i, _ in chosen), alive=tuple(left for _, left in chosen))


@dataclass
class DroppedTokens:
    """How many tokens of each request every stage and those before it have dropped.

    Attributes:
        stages: Keep rules of the stages, by increasing layer; none of them depends on scores.
    """

    stages: tuple[Keep, ...]
    _of: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Requests that are remembered."""
        return len(self._of)

    def plan(self, requests: Sequence[ScheduledRequest], living: Collection[str]) -> StepPlan:
        """The plan of a step, whose drops are remembered.

        Args:
            requests: Those that run.
            living: Names of all requests that may run again; all others are forgotten.

        Raises:
            PatchError: a request has visual tokens, and only a part of its prompt runs.
        """
        pruned: list[int] = []
        alive: list[tuple[int, ...]] = []
        for i, request in enumerate(requests):
            if request.is_prefill:
                _check_whole(request, request.rows >= request.n_prompt)
                left = self._left(request.n_visual)
                self._of[request.name] = tuple(request.n_visual - n for n in left[1:])
                pruned.append(i)
                alive.append(left)
            elif request.n_visual:
                _check_whole(request, request.rows == 1 and request.name in self._of)
            else:
                self._of.pop(request.name, None)  # the name of an earlier request, used again
        self._forget(living)
        none = (0,) * len(self.stages)
        gone = [(0, *self._of.get(request.name, none)) for request in requests]
        return StepPlan(tuple(requests), _segments(requests, gone), tuple(pruned), tuple(alive))

    def _left(self, n_visual: int) -> tuple[int, ...]:
        left = [n_visual]
        for keep in self.stages:
            left.append(keep.target(n_visual, left[-1]))
        return tuple(left)

    def _forget(self, living: Collection[str]) -> None:
        if len(self._of) > len(living):
            self._of = {name: gone for name, gone in self._of.items() if name in living}


def _segments(requests: Sequence[ScheduledRequest], gone: Sequence[tuple[int, ...]]) -> tuple[Segment, ...]:
    rows = np.array([request.rows for request in requests], np.int64)
    entries = np.array([request.computed + request.rows for request in requests], np.int64)
    here = np.array([request.is_prefill for request in requests], bool)  # only what is dropped in this step has rows
    return tuple(
        Segment(rows - np.where(here, dropped, 0), entries - dropped) for dropped in np.array(gone, np.int64).T
    )


def _check_whole(request: ScheduledRequest, whole: bool) -> None:
    if not whole:
        raise PatchError(
            f"only a part of a prompt with images runs in this step ({request.rows} tokens after {request.computed})",
            field="request",
            value=request.name,
            remedy="serve without --enable-chunked-prefill, --enable-prefix-caching and streaming sessions",
        )


def visual_ranges(features: Iterable[tuple[int, Sequence[bool] | int]]) -> tuple[tuple[int, int], ...]:
    """Half-open ranges of visual tokens from what an engine knows of its images.

    Args:
        features: For each image its first place, and its length or, place by place, whether a feature stands there.
    """
    ranges: list[tuple[int, int]] = []
    for first, marks in features:
        if isinstance(marks, int):
            ranges.append((first, first + marks))
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], np.asarray(marks, np.int8), [0]])))
        ranges += [(first + int(a), first + int(b)) for a, b in edges.reshape(-1, 2)]
    return tuple(sorted(ranges))


def lengths_by_layer(plan: StepPlan, layers: Sequence[int], num_layers: int) -> Mapping[str, tuple[int, ...]]:
    """Prompt tokens in every layer for each request that this step prunes, without answers that run with them.

    Args:
        plan: The step.
        layers: Layers of the stages.
        num_layers: Layers of the decoder.
    """
    segment = np.searchsorted(np.asarray(layers, np.int64), np.arange(num_layers), side="right")
    requests = {i: plan.requests[i] for i in plan.pruned}
    return {
        request.name: tuple(int(plan.segments[s].rows[i]) - (request.rows - request.n_prompt) for s in segment)
        for i, request in requests.items()
    }
