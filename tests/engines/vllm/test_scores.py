"""Scores of prompts side by side: each as if it were alone, and as the pruner of transformers chooses."""

from __future__ import annotations

import pytest
import torch
from support.syncs import counted_syncs

from autoprune.engines.vllm.scores import PromptBatch, SeenLayer, rows_where
from autoprune.engines.vllm.steps import DroppedTokens, ScheduledRequest, StepPlan
from autoprune.runtime.tap import Softmax
from autoprune.schedule import Schedule

DECODING = ScheduledRequest("answering", 1, 9, 6, ((1, 3),))
TEXT = ScheduledRequest("text", 4, 0, 4)
PROMPTS = (
    ScheduledRequest("a", 14, 0, 14, ((2, 10),)),
    ScheduledRequest("b", 9, 0, 9, ((0, 3), (5, 7))),
    ScheduledRequest("again", 16, 0, 12, ((3, 9),)),  # with four tokens of its answer
)
CRITERIA = [
    {"name": "uniform"},
    {"name": "random", "seed": 3},
    {"name": "diversity"},
    *({"name": "attention", "rows": rows} for rows in ("last", "text", "visual", "all", "raters")),
    {"name": "attention", "rows": "text", "combine": "last", "heads": "max"},
    {"name": "attention", "rows": "all", "normalize": "causal"},
]
WIDTH, HEADS, GROUPS, HEAD = 24, 4, 2, 8


def schedule_of(criterion: dict, merge: str | None = None) -> Schedule:
    stages = [
        {"layer": 1, "keep": {"ratio": 0.6}, "criterion": criterion, **({"merge": merge} if merge else {})},
        {"layer": 2, "keep": {"ratio": 0.3}, "criterion": criterion},
        {"layer": 3, "keep": {"ratio": 0.0}},
    ]
    return Schedule.model_validate({"format": "autoprune.schedule", "version": 1, "stages": stages})


def rows_of(request: ScheduledRequest) -> list[torch.Tensor]:
    """States, embeddings, queries and keys of a request, the same in every step."""
    torch.manual_seed(sum(map(ord, request.name)))
    shapes = ((WIDTH,), (WIDTH,), (HEADS, HEAD), (GROUPS, HEAD))
    return [torch.randn(20, *shape)[: request.rows] for shape in shapes]


def left(requests, schedule) -> dict[str, list[list[int]]]:
    """After each stage the places that are left of each pruned request; states take part in the merging."""
    dropped = DroppedTokens(tuple(stage.keep for stage in schedule.stages))
    dropped.plan([ScheduledRequest("answering", 6, 0, 6, ((1, 3),))], {"answering"})
    plan: StepPlan = dropped.plan(requests, {request.name for request in requests})
    states, embeddings, query, key = (torch.cat(parts) for parts in zip(*map(rows_of, requests), strict=True))
    names = [request.name for request in requests for _ in range(request.rows)]
    place = [p for request in requests for p in range(request.rows)]
    batch = PromptBatch(plan, {}, torch.device("cpu"))
    with counted_syncs() as reads:
        batch.find_raters(embeddings)
    rows = torch.arange(len(names))
    found: dict[str, list[list[int]]] = {plan.requests[i].name: [] for i in plan.pruned}
    for number, stage in enumerate(schedule.stages):
        seen = SeenLayer(query[rows], key[rows], Softmax(scaling=0.3))
        lost = int(plan.segments[number].rows.sum() - plan.segments[number + 1].rows.sum())
        with counted_syncs() as of_stage:
            stays = batch.choose(stage, number, states, seen)
            states = batch.merged(states) if stage.merge else states
            kept = rows_where(stays, len(rows) - lost)
        reads += of_stage
        assert int(stays.sum()) == len(kept)
        rows, states = rows[kept], states[kept]
        batch.go_on(kept)
        for name, stages in found.items():
            stages.append([place[r] for r in rows.tolist() if names[r] == name])
    assert not +reads, "a stage waits for the device"
    for name, stages in found.items():
        mine = [r for r in rows.tolist() if names[r] == name]
        stages.append([round(x, 4) for x in states[[rows.tolist().index(r) for r in mine]].sum(1).tolist()])
    return found


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_a_prompt_is_pruned_as_if_it_were_alone(criterion) -> None:
    schedule = schedule_of(criterion, merge="mean")
    together = left((PROMPTS[0], DECODING, PROMPTS[1], TEXT, PROMPTS[2]), schedule)
    assert len(together) == len(PROMPTS)
    for prompt in PROMPTS:
        assert together[prompt.name] == left((prompt,), schedule)[prompt.name]


@pytest.mark.parametrize("criterion", CRITERIA, ids=str)
def test_tokens_of_an_answer_do_not_vote(criterion) -> None:
    again = PROMPTS[2]
    at_first = ScheduledRequest("again", again.n_prompt, 0, again.n_prompt, again.visual)
    later, first = (left((request,), schedule_of(criterion))["again"] for request in (again, at_first))
    for longer, shorter in zip(later[:-1], first[:-1], strict=True):
        assert [place for place in longer if place < again.n_prompt] == shorter
        assert longer[len(shorter) :] == list(range(again.n_prompt, again.rows))
