"""Arms that take turns: their order, which rounds count, and the spread of what they measured."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from autoprune.evaluate.timing import Spread, milliseconds, take_turns


def test_each_round_begins_with_another_arm_and_warmup_is_left_out() -> None:
    ran: list[str] = []
    said: list[str] = []

    def measure(name: str) -> int:
        ran.append(name)
        return len(ran)

    results = take_turns({name: partial(measure, name) for name in "abc"}, repeats=2, warmup=1, on_step=said.append)
    assert "".join(ran) == "abc" + "bca" + "cab"
    assert results == {"a": [6, 8], "b": [4, 9], "c": [5, 7]}
    assert said[3] == "round 2 of 3: b"


def test_no_arm_has_no_results() -> None:
    assert take_turns({}, repeats=2) == {}


def test_the_clock_runs_during_the_call(monkeypatch) -> None:
    seconds = [1.0]
    monkeypatch.setattr("time.perf_counter", lambda: seconds[0])
    assert milliseconds(torch.device("cpu"), lambda: seconds.append(seconds.pop() + 0.25)) == 250


@pytest.mark.gpu
def test_the_clock_waits_for_the_gpu() -> None:
    """A product that takes the device milliseconds returns to the host at once."""
    device = torch.device("cuda")
    factor = torch.randn(8192, 8192, device=device)
    milliseconds(device, lambda: factor @ factor)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def timed() -> None:
        start.record()
        factor @ factor
        end.record()

    taken = milliseconds(device, timed)
    assert taken >= start.elapsed_time(end) > 1


def test_the_spread_of_repeats() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 0.0)
    assert Spread.of([1.0, 2.0, 3.0, 4.0, 100.0]) == Spread(3.0, 2.0)
