"""The policy on a space with known losses."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from support.toy_space import GROUPS, PRICES, ROWS, TASKS, ToySpace, initial, losses_of, problem

from autoprune.schedule import Schedule
from autoprune.search.policy import gp
from autoprune.search.policy.gp import GpPolicy
from autoprune.search.policy.protocol import Policy, Proposal
from autoprune.search.policy.records import FIRST, CandidateRecords
from autoprune.search.policy.rows import RowOrder


def answer(policy: Policy, proposal: Proposal) -> None:
    losses = losses_of(proposal.schedule)
    policy.tell(proposal.schedule, {row: float(losses[row]) for row in proposal.rows}, {})


def played(policy: Policy, count: int) -> Iterator[Proposal]:
    """Proposals, each answered before the next is asked for."""
    for _ in range(count):
        proposal = policy.ask()
        if proposal is None:
            return
        yield proposal
        answer(policy, proposal)


def whole_after(policy: Policy, rows: int) -> list[Schedule]:
    """Schedules with all rows once so many rows were spent."""
    seen: dict[str, set[int]] = {}
    schedules, spent = {}, 0
    for proposal in played(policy, 10_000):
        spent += len(proposal.rows)
        seen.setdefault(proposal.schedule.key, set()).update(proposal.rows)
        schedules[proposal.schedule.key] = proposal.schedule
        if spent >= rows:
            break
    return [schedule for key, schedule in schedules.items() if len(seen[key]) == ROWS]


def probed() -> CandidateRecords:
    """Records of all initial schedules, from which the hard rows were learned."""
    records = CandidateRecords(problem())
    for one in initial():
        records.add(one.schedule, dict(enumerate(losses_of(one.schedule))))
    records.learn_rows()
    return records


def volume(schedules: list[Schedule], within: float) -> float:
    """Hypervolume below a loss, of the cheapest first."""
    points = sorted((float(PRICES.flops_ratios([s])[0]), float(losses_of(s).mean())) for s in schedules)
    total, level = 0.0, within
    for cost, loss in points:
        if cost < 1 and loss < level:
            total += (level - loss) * (1 - cost)
            level = loss
    return total


def test_initial_schedules_come_first_on_all_rows() -> None:
    proposals = list(played(GpPolicy(problem()), len(initial())))
    assert [(p.schedule.key, p.origin, p.name) for p in proposals] == [
        (i.schedule.key, i.origin, i.name) for i in initial()
    ]
    assert all(p.rows == tuple(range(ROWS)) for p in proposals)


def test_a_row_is_proposed_once_and_in_the_end_everything_is_measured() -> None:
    space = ToySpace(most=50)
    seen: dict[str, set[int]] = {}
    for proposal in played(GpPolicy(problem(space, initial=initial()[:6])), 10_000):
        assert proposal.rows
        assert not seen.setdefault(proposal.schedule.key, set()) & set(proposal.rows)
        seen[proposal.schedule.key].update(proposal.rows)
    assert {s.key for s in space.schedules()} <= set(seen)
    assert all(rows == set(range(ROWS)) for rows in seen.values())


def test_the_same_calls_give_the_same_proposals() -> None:
    first, second = (list(played(GpPolicy(problem(seed=3)), 60)) for _ in range(2))
    assert first == second


def test_a_policy_that_was_told_everything_goes_on_where_the_first_stopped() -> None:
    first = GpPolicy(problem())
    told = list(played(first, 70))
    again, reversed_ = GpPolicy(problem()), GpPolicy(problem())
    for policy, order in ((again, told), (reversed_, told[::-1])):
        for proposal in order:
            answer(policy, proposal)
    known = {(p.schedule.key, row) for p in told for row in p.rows}
    for policy in (again, reversed_):
        more = list(played(policy, 15))
        assert not known & {(p.schedule.key, row) for p in more for row in p.rows}
        assert all(p.origin == "sampler" for p in more)


def test_new_candidates_are_measured_on_hard_rows_first_and_audited() -> None:
    probes = np.array([losses_of(i.schedule) for i in initial()])
    useful = probes[probes.mean(1) < 0.3]
    hard = set(np.flatnonzero(useful.var(0) > 0).tolist())
    assert 5 < len(hard) < ROWS / 2
    by_key: dict[str, list[tuple[int, ...]]] = {}
    for proposal in played(GpPolicy(problem()), 90):
        if proposal.origin == "sampler":
            by_key.setdefault(proposal.schedule.key, []).append(proposal.rows)
    assert all(len(rows[0]) == FIRST and set(rows[0]) <= hard for rows in by_key.values())
    second = {key: {*rows[0], *rows[1]} for key, rows in by_key.items() if len(rows) > 1}
    assert 0 < len(second) < len(by_key), "only those that still promise most are measured on more"
    safe = set(range(ROWS)) - hard
    for rows in second.values():
        assert hard <= rows
        assert round(0.1 * (len(safe) - 2)) <= len(safe & rows) <= 0.2 * len(safe) + 2
    audits = [rows - hard for rows in second.values()]
    assert any(a != audits[0] for a in audits), "every candidate is audited on other rows"
    assert any(len(rows) == 3 and sum(map(len, rows)) == ROWS for rows in by_key.values())


def test_what_a_candidate_lost_on_few_rows_says_what_it_loses_on_the_others() -> None:
    records = probed()
    others = [s for s in ToySpace().schedules() if 0 < losses_of(s).mean() < 0.3]
    expected, true = [], []
    for schedule in others:
        if rows := records.next_rows(schedule):
            records.add(schedule, {row: losses_of(schedule)[row] for row in rows[:FIRST]})
            found = records.loss(next(r for r in records.all() if r.key == schedule.key), 0)
            expected.append(found)
            true.append(losses_of(schedule).mean())
    errors = np.array([e.loss for e in expected]) - np.array(true)
    blind = np.mean(true) - np.array(true)
    assert np.abs(errors).mean() < 0.6 * np.abs(blind).mean()
    assert np.mean(np.abs(errors) <= 2 * np.sqrt([e.noise for e in expected])) > 0.9


def test_at_the_end_of_a_budget_candidates_that_were_begun_become_whole() -> None:
    policy = GpPolicy(problem())
    assert list(played(policy, len(initial())))
    first = [proposal for _ in range(6) if (proposal := policy.ask())]
    for proposal in first:
        answer(policy, proposal)
    seen = {proposal.schedule.key: set(proposal.rows) for proposal in first}
    begun = {key for key, rows in seen.items() if len(rows) < ROWS}
    assert begun
    finished = set()
    while (last := policy.ask(begun_only=True)) is not None:
        assert last.schedule.key in begun
        assert not seen[last.schedule.key] & set(last.rows)
        seen[last.schedule.key].update(last.rows)
        finished.add(last.schedule.key)
        answer(policy, last)
    assert finished
    assert all(len(seen[key]) == ROWS for key in finished)


def test_every_task_has_a_hard_row_though_no_probe_differs_on_it() -> None:
    losses = np.zeros((3, ROWS))
    losses[0, [1, 2, 3]] = losses[1, [2]] = 1.0  # row 1, 2, 3: none of task "read"
    order = RowOrder.from_probes(losses, TASKS, GROUPS)
    assert set(order.hard) >= {1, 2, 3}
    assert {TASKS[row] for row in order.hard} == set(TASKS)
    assert sorted(order.all) == list(range(ROWS))


def test_a_flip_on_an_audited_row_makes_it_hard_for_the_next_candidate() -> None:
    records = probed()
    one, other = (s for s in list(ToySpace().schedules())[-2:])
    for _ in range(2):
        rows = records.next_rows(one)
        flipped = rows[-1]  # the audited rows stand behind the hard ones
        audited = round(0.1 * (ROWS - FIRST - len(rows)))
        records.add(one, dict.fromkeys(rows, 0.0))
    before = records.next_rows(other)
    records.add(other, dict.fromkeys(before, 0.0))
    records.add(one, {flipped: 1.0})
    assert flipped in records.next_rows(other)[:-audited]


def test_better_than_chance_at_equal_rows() -> None:
    space, budget = ToySpace(), 45 * ROWS
    best = volume(list(space.schedules()), 0.15)
    found = [volume(whole_after(GpPolicy(problem(space, seed=seed)), budget), 0.15) / best for seed in range(3)]
    rng = np.random.default_rng(0)
    by_chance = [volume([space.draw(rng) for _ in range(45)], 0.15) / best for _ in range(20)]
    assert min(found) > 0.97
    assert min(found) > max(by_chance)


def test_what_runs_is_not_proposed_again_and_nothing_is_proposed_that_failed() -> None:
    policy = GpPolicy(problem())
    list(played(policy, len(initial())))
    open_ = [policy.ask() for _ in range(6)]
    keys = [p.schedule.key for p in open_ if p]
    assert len(set(keys)) == 6
    failed = open_[0]
    assert failed is not None
    policy.fail(failed.schedule)
    for proposal in open_[1:]:
        assert proposal is not None
        answer(policy, proposal)
    assert failed.schedule.key not in {p.schedule.key for p in played(policy, 60)}


def test_the_first_answers_are_waited_for() -> None:
    policy = GpPolicy(problem(initial=initial()[:2]))
    first, second = policy.ask(), policy.ask()
    assert policy.ask() is None
    for proposal in (first, second):
        assert proposal is not None
        answer(policy, proposal)
    assert policy.ask() is not None


def test_without_initial_schedules_it_starts_by_chance() -> None:
    found = list(played(GpPolicy(problem(initial=())), 20))
    assert len(found) == 20


def test_a_bound_on_the_flops_limits_what_is_proposed() -> None:
    proposals = [p for p in played(GpPolicy(problem(max_flops=0.4)), 80) if p.origin == "sampler"]
    assert proposals
    assert PRICES.flops_ratios([p.schedule for p in proposals]).max() <= 0.4


def test_a_floor_of_a_task_steers_to_candidates_that_keep_it() -> None:
    def kept(bounds: dict[str, float]) -> float:
        proposals = list(played(GpPolicy(problem(max_drop=bounds)), 60))
        read = np.array([task == "read" for task in TASKS])
        drops = [losses_of(p.schedule)[read].mean() for p in proposals if p.origin == "sampler"]
        return float(np.mean(np.array(drops) <= 0.15))

    assert kept({"read": 0.1}) > kept({}) + 0.2


def test_losses_need_not_be_verdicts_and_several_pairs_take_turns() -> None:
    policy = GpPolicy(problem(costs=("flops", "kv_bytes"), qualities=("accuracy", "kl"), within=0.15))
    count = 0
    while count < 70 and (proposal := policy.ask()):
        lost = losses_of(proposal.schedule)
        kl = 0.02 * lost + 0.001 * np.arange(ROWS) / ROWS
        policy.tell(proposal.schedule, {row: (float(lost[row]), float(kl[row])) for row in proposal.rows}, {})
        count += 1
    assert count == 70


@pytest.mark.slow
def test_of_a_large_space_a_part_at_a_time_and_it_still_finds_the_front() -> None:
    space = ToySpace(size=10**6)
    best = volume(list(space.schedules()), 0.15)
    assert volume(whole_after(GpPolicy(problem(space)), 45 * ROWS), 0.15) > 0.95 * best


@pytest.mark.slow
def test_ten_times_as_many_candidates_cost_little_more_time_each() -> None:
    def seconds(told: int) -> float:
        space = ToySpace(size=10**6)
        policy, rng = GpPolicy(problem(space)), np.random.default_rng(0)
        list(played(policy, len(initial())))
        for schedule in [space.draw(rng) for _ in range(told)]:
            answer(policy, Proposal(schedule, tuple(range(ROWS))))
        start = time.process_time()
        assert len(list(played(policy, 20))) == 20
        return time.process_time() - start

    assert seconds(600) < 6 * seconds(60)


@pytest.mark.parametrize("too_large", [True, False])
def test_the_pool_of_a_large_space_is_drawn_anew_once_it_is_too_large(
    monkeypatch: pytest.MonkeyPatch, too_large: bool
) -> None:
    policy = GpPolicy(problem(ToySpace(size=10**6)))
    list(played(policy, len(initial()) + 18))  # the parameters are fitted again much later
    before = policy._pool
    assert before is not None
    monkeypatch.setattr(gp, "_LARGEST", len(before) - too_large)
    list(played(policy, 6))
    assert (policy._pool is not before) == too_large
