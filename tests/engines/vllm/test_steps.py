"""Steps of an engine under a schedule, against a model in lists: who is where in the cache of each layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoprune.engines.vllm.steps import (
    DroppedTokens,
    ScheduledRequest,
    lengths_by_layer,
    visual_ranges,
)
from autoprune.errors import PatchError
from autoprune.schedule import Keep

BLOCK, BLOCKS = 4, 64


@dataclass
class NaiveRequest:
    """A request as lists: its tokens, and for each segment the tokens that its layers hold."""

    name: str
    n_prompt: int
    visual: tuple[tuple[int, int], ...]
    tokens: list[int]
    blocks: list[int] = field(default_factory=list)
    computed: int = 0
    held: list[list[int]] = field(default_factory=list)

    def is_visual(self, place: int) -> bool:
        return any(start <= place < end for start, end in self.visual)


class NaiveEngine:
    """Blocks, requests and one cache for each segment."""

    def __init__(self, stages: tuple[Keep, ...]) -> None:
        self.stages = stages
        self.dropped = DroppedTokens(stages)
        self.free = list(range(BLOCKS))
        self.waiting: list[NaiveRequest] = []
        self.live: list[NaiveRequest] = []
        self.caches = [np.full(BLOCKS * BLOCK, -1) for _ in range(len(stages) + 1)]
        self.next_token = 0

    def token(self) -> int:
        self.next_token += 1
        return self.next_token

    def add(self, name: str, n_prompt: int, visual: tuple[tuple[int, int], ...]) -> None:
        self.waiting.append(NaiveRequest(name, n_prompt, visual, [self.token() for _ in range(n_prompt)]))

    def preempt(self, request: NaiveRequest) -> None:
        self.free = request.blocks + self.free  # used again at once
        request.blocks, request.computed, request.held = [], 0, []
        self.live.remove(request)
        self.waiting.append(request)

    def finish(self, request: NaiveRequest) -> None:
        self.free = request.blocks + self.free
        (self.live if request in self.live else self.waiting).remove(request)

    def step(self, prefills: int, skipped: int) -> None:
        for request in self.waiting[:prefills]:
            self.live.append(request)
        del self.waiting[:prefills]
        running = [r for i, r in enumerate(self.live) if i != skipped or not r.computed]
        running = [r for r in running if self._room(r)]
        if not running:
            return
        scheduled = tuple(
            ScheduledRequest(r.name, len(r.tokens) - r.computed, r.computed, r.n_prompt, r.visual) for r in running
        )
        everyone = {r.name for r in self.live + self.waiting}
        plan = self.dropped.plan(scheduled, everyone)
        table = np.zeros((len(running), BLOCKS), np.int32)
        for row, request in zip(table, running, strict=True):
            row[: len(request.blocks)] = request.blocks
            self._run(request)
        assert len(self.dropped) <= len(everyone)
        for s, (segment, cache) in enumerate(zip(plan.segments, self.caches, strict=True)):
            new = [self._new(request, request.held[s]) for request in running]
            assert segment.rows.tolist() == [len(tokens) for tokens in new]
            slots = segment.slots(table, BLOCK)
            assert len(set(slots.tolist())) == len(slots)
            cache[slots] = np.array([token for tokens in new for token in tokens])
            assert segment.entries.tolist() == [len(request.held[s]) for request in running]
            places = iter(segment.places.tolist())
            assert [next(places) for tokens in new for _ in tokens] == [
                request.held[s].index(token) for request, tokens in zip(running, new, strict=True) for token in tokens
            ]
            for request in self.live:  # those that do not run now too: nobody wrote into their entries
                if request.held:
                    read = [request.blocks[p // BLOCK] * BLOCK + p % BLOCK for p in range(len(request.held[s]))]
                    assert cache[read].tolist() == request.held[s]
        assert plan.is_dense == all(len(r.held[s]) == len(r.held[0]) for r in running for s in range(len(r.held)))
        for request in running:
            request.computed = len(request.tokens)
            request.tokens.append(self.token())

    def _room(self, request: NaiveRequest) -> bool:
        needed = -(-len(request.tokens) // BLOCK)
        while len(request.blocks) < needed:
            if not self.free:
                return False
            request.blocks.append(self.free.pop(0))
        return True

    def _new(self, request: NaiveRequest, held: list[int]) -> list[int]:
        fresh = set(request.tokens[request.computed :])
        return [token for token in held if token in fresh]

    def _run(self, request: NaiveRequest) -> None:
        if request.computed:
            for held in request.held:
                held += request.tokens[request.computed :]
            return
        left = [p for p in range(request.n_prompt) if request.is_visual(p)]
        n_visual = len(left)
        request.held = [list(request.tokens)]
        for keep in self.stages:
            left = left[: keep.target(n_visual, len(left))]
            request.held.append(
                [
                    t
                    for p, t in enumerate(request.tokens)
                    if p in left or p >= request.n_prompt or not request.is_visual(p)
                ]
            )


@st.composite
def keeps(draw: st.DrawFn) -> tuple[Keep, ...]:
    ratios = sorted(draw(st.lists(st.sampled_from([0.1, 0.3, 0.5, 0.9]), max_size=2)), reverse=True)
    stages = [Keep(ratio=ratio) for ratio in ratios]
    counts = sorted(draw(st.lists(st.integers(1, 6), max_size=1)), reverse=True)
    stages += [Keep(count=count) for count in counts]
    if draw(st.booleans()) or not stages:
        stages.append(Keep(ratio=0.0))
    return tuple(stages)


def prompts() -> st.SearchStrategy[tuple[int, tuple[tuple[int, int], ...]]]:
    def prompt(parts: list[tuple[int, int]], tail: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        ranges, at = [], 0
        for text, image in parts:
            at += text
            if image:
                ranges.append((at, at + image))
            at += image
        return at + tail, tuple(ranges)

    parts = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7)), max_size=3)
    return st.builds(prompt, parts, st.integers(1, 3))


ACTIONS = st.one_of(
    st.tuples(st.just("add"), prompts(), st.integers(0, 2)),
    st.tuples(st.just("step"), st.integers(0, 2), st.integers(0, 3)),
    st.tuples(st.just("preempt"), st.integers(0, 3), st.none()),
    st.tuples(st.just("finish"), st.integers(0, 3), st.none()),
)


@settings(max_examples=150, deadline=None)
@given(keeps(), st.lists(ACTIONS, max_size=30))
def test_every_layer_holds_what_lists_hold(stages, actions) -> None:
    engine = NaiveEngine(stages)
    used = set()
    for kind, value, other in actions:
        everyone = engine.live + engine.waiting
        if kind == "add":
            name = f"r{other}"  # names come back once their request is gone
            if name in {r.name for r in everyone}:
                continue
            used.add(name)
            engine.add(name, *value)
        elif kind == "step":
            engine.step(value, other)
        elif kind == "preempt" and value < len(engine.live):
            engine.preempt(engine.live[value])
        elif kind == "finish" and value < len(everyone):
            engine.finish(everyone[value])


def test_an_aborted_request_is_forgotten() -> None:
    dropped = DroppedTokens((Keep(ratio=0.0),))
    for i in range(100):
        dropped.plan([ScheduledRequest(f"r{i}", 10, 0, 10, ((1, 5),))], {f"r{i}"})
    assert len(dropped) <= 1


def test_a_part_of_a_prompt_with_images_is_refused() -> None:
    dropped = DroppedTokens((Keep(ratio=0.5),))
    with pytest.raises(PatchError, match="only a part of a prompt"):
        dropped.plan([ScheduledRequest("a", 8, 0, 12, ((1, 9),))], {"a"})
    with pytest.raises(PatchError, match="--enable-prefix-caching"):
        dropped.plan([ScheduledRequest("a", 8, 4, 12, ((1, 9),))], {"a"})
    text_only = dropped.plan([ScheduledRequest("b", 8, 4, 20)], {"b"})
    assert text_only.is_dense


def test_answers_run_again_after_a_preemption_are_no_part_of_the_prompt() -> None:
    dropped = DroppedTokens((Keep(ratio=0.5), Keep(ratio=0.0)))
    plan = dropped.plan([ScheduledRequest("a", 15, 0, 12, ((2, 10),))], {"a"})
    assert [int(s.rows[0]) for s in plan.segments] == [15, 11, 7]
    assert plan.alive == ((8, 4, 0),)


def test_lengths_of_each_layer_change_where_a_stage_stands() -> None:
    dropped = DroppedTokens((Keep(ratio=0.5), Keep(ratio=0.0)))
    plan = dropped.plan([ScheduledRequest("a", 12, 0, 12, ((2, 10),)), ScheduledRequest("b", 3, 0, 3)], {"a", "b"})
    assert lengths_by_layer(plan, (0, 3), 5) == {"a": (8, 8, 8, 4, 4)}
    again = dropped.plan([ScheduledRequest("a", 15, 0, 12, ((2, 10),))], {"a"})
    assert lengths_by_layer(again, (0, 3), 5) == {"a": (8, 8, 8, 4, 4)}


def test_places_of_features_make_ranges() -> None:
    marks = [False, True, True, False, True]
    assert visual_ranges([(20, 3), (4, marks)]) == ((5, 7), (8, 9), (20, 23))
    assert visual_ranges([(0, [False, False])]) == ()
