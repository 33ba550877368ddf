"""Two studies side by side: one chart, the same losses, and what speaks against the comparison."""

from __future__ import annotations

import copy

from support.fronts import make_front, typed

from autoprune.report.export import select_point
from autoprune.report.pairs import are_comparable, budget_rows, doubts, paired_chart
from autoprune.report.reading import flops_of, pruned_points
from autoprune.report.words import percent


def pair():
    a, b = make_front(seed=0), make_front(seed=1)
    a["study"]["name"], b["study"]["name"] = "first", "second"
    return typed(a), typed(b)


def test_both_fronts_are_in_one_chart_and_told_apart_without_colour() -> None:
    fronts = pair()
    traces = paired_chart(fronts)["traces"]
    assert [trace["name"] for trace in traces] == ["first", "first: dense", "second", "second: dense"]
    assert [trace["marker"]["symbol"] for trace in traces[::2]] == ["circle", "diamond"]
    for front, trace in zip(fronts, traces[::2], strict=True):
        assert set(trace["x"]) <= {flops_of(p) for p in pruned_points(front)}


def test_the_same_loss_is_priced_in_both() -> None:
    fronts = pair()
    row = next(row for row in budget_rows(fronts) if row.within == "2.0 points")
    for front, found in zip(fronts, row.points, strict=True):
        assert found is not None
        assert found[0] == percent(flops_of(select_point(front, max_drop=0.02)))


def test_what_speaks_against_a_comparison() -> None:
    same = typed(make_front())
    assert doubts((same, same)) == []
    a, b = make_front(), copy.deepcopy(make_front())
    b["model"] = {**b["model"], "fingerprint": "other"}
    b["study"]["data"]["validation"]["digest"] = "other"
    b["study"]["complete"] = False
    said = " ".join(doubts((typed(a), typed(b))))
    for word in ("models differ", "different rows", "stopped"):
        assert word in said
    b["study"]["objectives"] = ["flops", "kl"]
    assert not are_comparable((typed(a), typed(b)))
