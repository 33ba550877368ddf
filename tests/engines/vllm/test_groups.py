"""Prompts of one step in groups: the same choices, without the memory that filling up short prompts would need."""

from __future__ import annotations

import pytest
import torch
from support.syncs import counted_operators, counted_syncs

from autoprune.engines.vllm import groups
from autoprune.engines.vllm.groups import PromptGroups, grouped
from autoprune.engines.vllm.scores import PromptBatch, SeenLayer, rows_where
from autoprune.engines.vllm.steps import DroppedTokens, ScheduledRequest
from autoprune.runtime.tap import Softmax
from autoprune.schedule import Schedule

HEADS, HEAD = 2, 8


def test_groups_are_bounded_and_hold_every_prompt_once() -> None:
    lengths = [10, 600, 12, 11, 580, 10]
    found = grouped(lengths, most=500)
    assert sorted(i for group in found for i in group) == list(range(6))
    assert found == [[1], [4], [2, 3, 0], [5]]
    assert grouped(lengths) == [[1, 4, 2, 3, 0, 5]]
    assert grouped([], most=1) == []


def schedule_of(criterion: dict, **more: str) -> Schedule:
    stages = [
        {"layer": layer, "keep": {"ratio": r}, "criterion": criterion, **more} for layer, r in ((1, 0.6), (2, 0.3))
    ]
    return Schedule.model_validate({"format": "autoprune.schedule", "version": 1, "stages": stages})


def chosen(schedule: Schedule, lengths: list[int], kind: type) -> list[torch.Tensor]:
    """Rows that are left after each stage, and the states at the end."""
    requests = [ScheduledRequest(f"r{i}", n, 0, n, ((1, n - 2),)) for i, n in enumerate(lengths)]
    requests.insert(1, ScheduledRequest("text", 3, 0, 3))
    plan = DroppedTokens(tuple(s.keep for s in schedule.stages)).plan(requests, {r.name for r in requests})
    total = int(plan.segments[0].rows.sum())
    generator = torch.Generator().manual_seed(0)
    states, query, key = (torch.randn(total, *shape, generator=generator) for shape in ((8,), *[(HEADS, HEAD)] * 2))
    batch = kind(plan, {}, torch.device("cpu"))
    batch.find_raters(states)
    rows, found = torch.arange(total), []
    with counted_syncs() as reads:
        for number, stage in enumerate(schedule.stages):
            lost = int(plan.segments[number].rows.sum() - plan.segments[number + 1].rows.sum())
            stays = batch.choose(stage, number, states, SeenLayer(query[rows], key[rows], Softmax(scaling=0.3)))
            states = batch.merged(states) if stage.merge else states
            kept = rows_where(stays, len(rows) - lost)
            rows, states = rows[kept], states[kept]
            batch.go_on(kept)
            found.append(rows)
    assert not +reads, "a stage waits for the device"
    return [*found, states]


@pytest.mark.parametrize("merge", [{}, {"merge": "mean"}], ids=["", "merged"])
@pytest.mark.parametrize(
    "criterion",
    [
        {"name": "diversity"},
        {"name": "uniform"},
        *({"name": "attention", "rows": r} for r in ("last", "all", "raters")),
    ],
    ids=str,
)
def test_groups_choose_what_all_prompts_at_once_choose(monkeypatch, criterion, merge) -> None:
    lengths = [9, 30, 14, 31, 8, 12]
    together = chosen(schedule_of(criterion, **merge), lengths, PromptBatch)
    monkeypatch.setattr(groups, "grouped", lambda lengths: grouped(lengths, most=2000))
    apart = chosen(schedule_of(criterion, **merge), lengths, PromptGroups)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_short_prompts_beside_a_long_one_cost_little() -> None:
    schedule = schedule_of({"name": "attention", "rows": "all"})
    with counted_operators() as long:
        chosen(schedule, [1500], PromptGroups)
    with counted_operators() as beside:
        chosen(schedule, [1500, *[40] * 30], PromptGroups)
    assert beside.largest < 2 * long.largest
