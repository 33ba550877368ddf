"""Decisions judged by attention maps, against counting by hand."""

from __future__ import annotations

import itertools

import pytest
import torch

from autoprune.doctor.reference import map_criterion, misjudged, received, spread, voters
from autoprune.schedule import AttentionCriterion, Keep, Stage

S, HEADS = 9, 3
VISUAL = torch.tensor([False, False, True, True, True, True, False, False, False])
ALIVE = torch.tensor([True, True, True, False, True, True, True, True, True])


@pytest.mark.parametrize(
    ("rows", "wanted"), [("last", [8]), ("text", [6, 7, 8]), ("visual", [2, 4, 5]), ("all", [0, 1, 2, 4, 5, 6, 7, 8])]
)
def test_who_votes(rows, wanted):
    found = voters(AttentionCriterion(rows=rows), VISUAL, ALIVE)
    assert found.nonzero().flatten().tolist() == wanted


@pytest.mark.parametrize(
    ("heads", "reduce", "normalize"),
    [*itertools.product(["mean", "max", "sum"], ["sum", "mean"], ["none"]), ("mean", "sum", "causal")],
)
def test_what_a_column_receives(heads, reduce, normalize):
    seen = torch.ones(S, S).tril().bool()
    weights = torch.rand(HEADS, S, S, generator=torch.Generator().manual_seed(0)) * seen
    criterion = AttentionCriterion(rows="text", heads=heads, reduce=reduce, normalize=normalize)
    rows = voters(criterion, VISUAL, ALIVE)
    found = received(weights, seen, rows, criterion)
    for column in range(S):
        votes, visible = [], 0
        for row in rows.nonzero().flatten().tolist():
            per_head = [float(weights[h, row, column]) for h in range(HEADS)]
            votes.append({"mean": sum(per_head) / HEADS, "max": max(per_head), "sum": sum(per_head)}[heads])
            visible += column <= row
        wanted = sum(votes) / (max(visible, 1) if normalize == "causal" else len(votes) if reduce == "mean" else 1)
        assert float(found[column]) == pytest.approx(wanted, abs=1e-6)


SCORES = torch.tensor([0.0, 0.0, 0.4, 0.1, 0.3, 0.2, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("keep", "kept", "wanted"),
    [
        ({"ratio": 0.5}, [2, 4], 0.0),
        ({"ratio": 0.5}, [2, 3], 0.5),  # 0.3 was dropped, 0.1 was kept: 0.2 of 0.4
        ({"threshold": 0.2}, [2, 4, 5], 0.0),
        ({"threshold": 0.2}, [2, 4], 0.0),  # 0.2 is on the threshold: either is within rounding
        ({"threshold": 0.2}, [2], 0.25),
        ({"threshold": 0.35}, [2, 4], 0.125),
        ({"threshold": 0.9}, [2], 0.0),  # the best one stays whatever the threshold
        ({"mass": 0.6}, [2, 4], 0.0),
        ({"mass": 0.6}, [2], 0.5),  # 0.4 of 1.0 is 0.2 short
        ({"mass": 0.6}, [2, 4, 5], 0.25),  # 0.7 were enough without the last 0.2
    ],
)
def test_how_wrong_a_choice_is(keep, kept, wanted):
    chosen = torch.zeros(S, dtype=torch.bool)
    chosen[kept] = True
    assert misjudged(SCORES, VISUAL, chosen, Keep(**keep)) == pytest.approx(wanted, abs=1e-6)


def test_scores_that_are_all_alike_cannot_be_judged():
    assert spread(torch.full((S,), 0.3), VISUAL) == 0
    assert spread(SCORES, VISUAL) == pytest.approx(0.75)


def test_raters_and_combined_rows_need_more_than_a_map():
    def stage(**criterion):
        return Stage(layer=2, keep=Keep(ratio=0.5), criterion=AttentionCriterion(**criterion))

    assert map_criterion(stage(rows="text")) == AttentionCriterion(rows="text")
    assert map_criterion(stage(rows="raters")) is None
    assert map_criterion(stage(rows="last", combine="text")) is None
    assert map_criterion(Stage(layer=2, keep=Keep(ratio=0.0))) is None
