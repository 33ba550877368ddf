"""The loop that runs what a policy asks for: partial candidates, batches, budgets, resuming."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import fake_backend
from support.studies import BACKEND, tiny_spec
from support.trials import assert_all_ended, stored

from autoprune import presets
from autoprune.errors import AutopruneError
from autoprune.schedule import Schedule
from autoprune.search import driver
from autoprune.search.driver import RunOutcome, run_study
from autoprune.search.policy.protocol import Losses, Proposal
from autoprune.search.workers.protocol import Event

SIZE = fake_backend.SIZES["calibration"]
WITHDRAWALS = [presets.vtw(layer) for layer in range(1, fake_backend.LAYERS)]


class Script:
    """A policy that asks for what it was given, and remembers what it is told."""

    def __init__(
        self, *asked: tuple[Schedule, tuple[int, ...]], begun: Sequence[tuple[Schedule, tuple[int, ...]]] = ()
    ) -> None:
        self.asked, self.begun = list(asked), list(begun)
        self.told: list[tuple[str, dict[int, Any], dict[str, float]]] = []
        self.failed: list[str] = []

    def ask(self, *, begun_only: bool = False) -> Proposal | None:
        left = self.begun if begun_only else self.asked
        return Proposal(*left.pop(0)) if left else None

    def tell(self, schedule: Schedule, losses: Losses, cost: Mapping[str, float]) -> None:
        self.told.append((schedule.key, dict(losses), dict(cost)))

    def fail(self, schedule: Schedule) -> None:
        self.failed.append(schedule.key)


def run(folder: Path, policy: Script, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> RunOutcome:
    monkeypatch.setattr(driver, "make_policy", lambda *given: policy)
    return run_study(tiny_spec(folder, **sections), backend=BACKEND)


def searched(folder: Path) -> list[tuple[tuple[int, ...], list[str]]]:
    """Rows and schedules of every task on the calibration rows after the dense one."""
    lines = [line.split() for line in (folder / "tasks.log").read_text().splitlines()]
    return [(tuple(map(int, rows.split(","))), keys) for _, split, rows, *keys in lines if split == "calibration"][1:]


def test_a_policy_is_told_losses_by_row_and_what_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = Script((WITHDRAWALS[0], (5, 3)), (WITHDRAWALS[0], tuple(range(SIZE))))
    run(tmp_path, policy, monkeypatch)
    dense, pruned = ([fake_backend.sample("calibration", s, i).correct for i in range(SIZE)]
                     for s in (Schedule(), WITHDRAWALS[0]))  # fmt: skip
    lost = {row: (dense[row] - pruned[row],) for row in range(SIZE)}
    (_, first, cost), (_, rest, _) = policy.told
    assert (first, list(first)) == ({5: lost[5], 3: lost[3]}, [5, 3])
    assert rest == {row: loss for row, loss in lost.items() if row not in (5, 3)}, "known rows are not measured again"
    assert cost == {"flops": pytest.approx(fake_backend.cost(WITHDRAWALS[0]), abs=1e-5)}


def test_what_was_begun_and_not_completed_ends_with_the_search_and_shows_no_quality(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tuple(range(0, 40, 2))
    policy = Script((WITHDRAWALS[0], rows), (WITHDRAWALS[-1], tuple(range(SIZE))))
    front = run(tmp_path, policy, monkeypatch).front
    begun, whole = stored(tiny_spec(tmp_path))
    assert (begun.state.name, begun.values, whole.state.name) == ("PRUNED", None, "COMPLETE")
    assert begun.user_attrs["measured"]["reason"].startswith("the search ended after 20 of 128 rows")
    assert not {"accuracy", "agreement", "kl"} & begun.user_attrs["measured"].keys()
    record = next(t for t in front.study.trials if t.trial == begun.number)
    assert record.figure("accuracy") is None


@pytest.mark.parametrize("search", [{"trials": 1}, {"trials": 9, "row_forwards": SIZE}])
def test_a_budget_ends_with_finishing_what_was_begun_and_then_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: dict[str, Any]
) -> None:
    rest = tuple(row for row in range(SIZE) if row not in (5, 3))

    def script() -> Script:
        new = (WITHDRAWALS[1], tuple(range(SIZE)))
        return Script((WITHDRAWALS[0], (5, 3)), new, begun=[(WITHDRAWALS[0], rest), (WITHDRAWALS[1], rest)])

    outcome = run(tmp_path, script(), monkeypatch, search=search)
    assert outcome.counts["COMPLETE"] == 1
    assert searched(tmp_path) == [((5, 3), [WITHDRAWALS[0].key]), (rest, [WITHDRAWALS[0].key])]
    run(tmp_path, Script(new := (WITHDRAWALS[2], rest), begun=[new]), monkeypatch, search=search)
    assert len(searched(tmp_path)) == 2, "the search ended before"


def test_a_later_search_takes_it_up_again_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, Script((WITHDRAWALS[0], (7, 9))), monkeypatch)
    again = Script((WITHDRAWALS[0], tuple(range(SIZE))))
    outcome = run(tmp_path, again, monkeypatch)
    assert [set(losses) for _, losses, _ in again.told] == [{7, 9}, set(range(SIZE)) - {7, 9}]
    assert [(t.state.name, t.user_attrs.get("continues")) for t in stored(tiny_spec(tmp_path))] == [
        ("PRUNED", None),
        ("COMPLETE", 0),
    ]
    assert [p.trial for p in outcome.front.points] == [1]


def test_ctrl_c_between_looks_loses_nothing(tmp_path: Path) -> None:
    sections: dict[str, Any] = {"baselines": [], "space": {"criteria": ["text"]}}

    def listen(event: Event) -> None:
        if event.kind == "phase" and event.message == "searching":
            os.kill(os.getpid(), signal.SIGINT)

    spec = tiny_spec(tmp_path, search={"trials": 14, "sampler": "tpe"}, **sections)
    run_study(spec, on_event=listen, backend=BACKEND)
    outcome = run_study(spec, backend=BACKEND)
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 14
    assert_all_ended(spec)


def test_one_failing_candidate_of_a_batch_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "failing").write_text(WITHDRAWALS[2].key)
    spec = tiny_spec(tmp_path, baselines=[], search={"trials": 7, "sampler": "gp"})
    run_study(spec, backend=BACKEND)
    assert max(len(keys) for _, keys in searched(tmp_path)) > 2, "withdrawals go to a worker together"
    states = {t.user_attrs["candidate"]["key"]: t.state.name for t in stored(spec)}
    assert states[WITHDRAWALS[2].key] == "FAIL"
    assert list(states.values()).count("FAIL") == 1


def test_a_bug_in_a_batch_is_told_of_the_trial_that_met_it(tmp_path: Path) -> None:
    (tmp_path / "bug").write_text(WITHDRAWALS[2].key)
    spec = tiny_spec(tmp_path, baselines=[], search={"trials": 7, "sampler": "gp"})
    with pytest.raises(AutopruneError, match="stopped the study: TypeError") as raised:
        run_study(spec, backend=BACKEND)
    number = next(t.number for t in stored(spec) if t.user_attrs["candidate"]["key"] == WITHDRAWALS[2].key)
    assert f"trial {number} " in str(raised.value)


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_the_budget_of_rows_is_kept_over_all_runs(tmp_path: Path, sampler: str) -> None:
    search = {"trials": 500, "row_forwards": 30 * SIZE, "sampler": sampler}
    events: list[Event] = []
    for rows in (20 * SIZE, 30 * SIZE):
        spec = tiny_spec(tmp_path, baselines=["vtw"], search=search | {"row_forwards": rows})
        run_study(spec, backend=BACKEND, on_event=events.append)
        spent = sum(len(rows) * len(keys) for rows, keys in searched(tmp_path))
        assert rows - SIZE <= spent <= rows
    told = [e.data for e in events if e.kind == "trial"]
    assert told[-1]["row_budget"] == 30 * SIZE
    assert 29 * SIZE <= told[-1]["row_forwards"] <= 30 * SIZE


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_nothing_above_the_bound_on_flops_is_tried_but_baselines(tmp_path: Path, sampler: str) -> None:
    spec = tiny_spec(
        tmp_path, baselines=["pyramiddrop"], constraints={"max_flops": 0.5}, search={"trials": 30, "sampler": sampler}
    )
    run_study(spec, backend=BACKEND)
    # The made-up costs are near the real ones.
    dear = [t for t in stored(spec) if t.user_attrs["measured"]["flops_ratio"] > 0.52]
    assert [t.user_attrs["candidate"]["name"] for t in dear] == ["pyramiddrop"]
    assert len(stored(spec)) == 30
