"""Scores and choices on small tensors, against numbers counted by hand."""

from __future__ import annotations

import pytest
import torch

from autoprune.runtime.criteria.attention import attention_received
from autoprune.runtime.criteria.uniform import evenly
from autoprune.runtime.survivors import adaptive_targets, choose
from autoprune.runtime.tap import Softmax
from autoprune.schedule import Keep, parse_criterion


def kept(scores: list[float], **rule: float) -> list[int]:
    row, keep = torch.tensor([scores], dtype=torch.float32), Keep(**rule)
    candidates = torch.ones_like(row, dtype=torch.bool)
    fixed = keep.kind in ("ratio", "count")
    targets = (
        torch.tensor([keep.target(len(scores), len(scores))]) if fixed else adaptive_targets(row, candidates, keep)[0]
    )
    return choose(row, candidates, targets)[0].nonzero()[:, 0].tolist()


def test_ties_keep_the_earlier_token() -> None:
    many = torch.zeros(1, 4000)
    many[0, ::3] = 1.0
    chosen = choose(many, torch.ones_like(many, dtype=torch.bool), torch.tensor([1000]))
    assert chosen[0].nonzero()[:, 0].tolist() == list(range(0, 3000, 3))
    assert kept([1, 2, 2, 2], count=2) == [1, 2]


def test_mass_is_the_fewest_tokens_that_hold_it() -> None:
    assert kept([1, 4, 2, 1], mass=0.5) == [1]  # exactly half
    assert kept([1, 4, 2, 1], mass=0.51) == [1, 2]
    assert kept([1, 4, 2, 1], mass=1.0) == [0, 1, 2, 3]


def test_threshold_keeps_equal_scores_and_at_least_the_best() -> None:
    assert kept([0.1, 0.2, 0.3], threshold=0.2) == [1, 2]
    assert kept([0.1, 0.2, 0.3], threshold=9.0) == [2]


def test_uniform_choices_are_evenly_spaced() -> None:
    assert evenly(10, 2).nonzero()[:, 0].tolist() == [2, 7]
    assert evenly(3, 3).tolist() == [1, 1, 1]


@pytest.mark.parametrize("mask", ["none", "bool", "additive"])
@pytest.mark.parametrize("past", [0, 5])
def test_attention_received_is_the_column_sum_of_the_map(past: int, mask: str) -> None:
    """More rows than one chunk; queries after `past` cached keys; grouped heads."""
    n, total = 300, 300 + past
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(1, 4, n, 8, generator=generator), torch.randn(1, 2, total, 8, generator=generator)
    rows = torch.rand(1, n, generator=generator) < 0.9
    visible = torch.arange(total)[None] <= (torch.arange(n) + past)[:, None]
    given = {"none": None, "bool": visible[None, None], "additive": None}[mask]
    if mask == "additive":
        given = torch.zeros(1, 1, n, total).masked_fill(~visible, torch.finfo(torch.float32).min)
    logits = query.double() @ key.double().repeat_interleave(2, 1).transpose(2, 3) * 0.3
    weights = logits.masked_fill(~visible, float("-inf")).softmax(-1)[0]
    votes = rows[0].double()
    for heads, over in (("mean", weights.mean(0)), ("max", weights.amax(0)), ("sum", weights.sum(0))):
        for options, divisor in (
            ({}, torch.ones(total)),
            ({"reduce": "mean"}, votes.sum()),
            ({"normalize": "causal"}, (visible * votes[:, None]).sum(0).clamp(min=1)),
        ):
            criterion = parse_criterion({"name": "attention", "rows": "all", "heads": heads, **options})
            got = attention_received(query, key, rows, given, Softmax(0.3), criterion, n)
            expected = (over * votes[:, None]).sum(0) / divisor
            torch.testing.assert_close(got[0].double(), expected, atol=1e-5, rtol=1e-5)


def test_scores_are_fp32_for_half_precision_models() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 2, 40, 8, generator=generator).bfloat16() for _ in range(2))
    rows, criterion = torch.ones(1, 40, dtype=torch.bool), parse_criterion("all")
    got = attention_received(query, key, rows, None, Softmax(), criterion, 40)
    expected = attention_received(query.double().float(), key.double().float(), rows, None, Softmax(), criterion, 40)
    assert got.dtype == torch.float32
    assert torch.equal(got, expected)
