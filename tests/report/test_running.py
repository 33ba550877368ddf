"""The chart of a study that runs: what is on its front so far, on the axes of its own objectives."""

from __future__ import annotations

from autoprune.report.running import MeasuredTrial, running_chart


def test_the_front_so_far_is_what_no_other_trial_dominates() -> None:
    values = [(0.9, 0.99), (0.5, 0.98), (0.5, 0.90), (0.2, 0.80), (0.3, 0.70)]
    chart = running_chart(("flops", "accuracy"), [MeasuredTrial(n, f"t{n}", v) for n, v in enumerate(values)])
    explored, line = chart["traces"]
    assert list(zip(line["x"], line["y"], strict=True)) == [(0.2, 0.80), (0.5, 0.98), (0.9, 0.99)]
    assert len(explored["x"]) == 5
    assert [lines[0] for lines in line["meta"]["hover"]] == ["t3", "t1", "t0"]
    low, high = chart["layout"]["yaxis"]["range"]
    assert low < 0.80
    assert high > 0.99
    assert chart["note"].startswith("Provisional: 5 schedules")


def test_axes_are_the_objectives_of_the_study() -> None:
    chart = running_chart(
        ("kl", "latency", "flops"), [MeasuredTrial(0, "", (0.3, 0.7, 0.2)), MeasuredTrial(1, "", (0.1, 0.9, 0.2))]
    )
    assert chart["layout"]["xaxis"]["title"]["text"] == "prefill time, share of dense"
    assert chart["layout"]["yaxis"]["title"]["text"] == "KL(dense ‖ pruned)"
    assert chart["traces"][1]["x"] == [0.7, 0.9]
    assert chart["traces"][1]["meta"]["hover"][0][0] == "trial 0"


def test_nothing_measured_yet() -> None:
    chart = running_chart(("flops", "accuracy"), [])
    assert chart["traces"] == []
