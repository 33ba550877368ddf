"""Schedules by common first stages."""

from __future__ import annotations

from autoprune.evaluate.trie import Branch, tree
from autoprune.schedule import Schedule

TEXT = {"name": "attention", "rows": "text"}


def schedule(*parts, positions="keep"):
    stages = [{"layer": k, "keep": {"ratio": r}, "criterion": TEXT if 0 < r < 1 else None} for k, r in parts]
    return Schedule.model_validate({"stages": stages, "positions": positions})


def outline(branch: Branch):
    """Layers of the stages, places of the schedules that end there, and what is below."""
    below = [outline(child) for child in branch.branches.values()]
    return [stage.layer for stage in branch.schedule.stages], branch.ends, below


def test_schedules_part_where_their_stages_do():
    first = (2, 0.5)
    found = tree([schedule(first, (5, 0.2)), schedule(first), schedule(first, (7, 0.0)), schedule(), schedule(first)])
    assert [outline(root) for root in found] == [
        ([], [3], [([2], [1, 4], [([2, 5], [0], []), ([2, 7], [2], [])])]),
    ]


def test_stages_that_one_schedule_alone_has_are_run_in_one_pass():
    (root,) = tree([schedule((1, 0.7), (3, 0.5), (5, 0.2)), schedule((2, 0.5), (4, 0.3), (6, 0.1)), schedule((2, 0.3))])
    assert [outline(child) for child in root.branches.values()] == [
        ([1, 3, 5], [0], []),
        ([2, 4, 6], [1], []),
        ([2], [2], []),
    ]


def test_stages_that_keep_everything_share_with_those_that_do_not_name_them():
    (root,) = tree([schedule((1, 1.0), (3, 0.5)), schedule((3, 0.5)), schedule((4, 1.0))])
    assert outline(root) == ([], [2], [([3], [0, 1], [])])


def test_positions_part_schedules_from_the_start():
    kept, compact = tree([schedule((2, 0.5)), schedule((2, 0.5), positions="compact")])
    assert (kept.schedule.positions, compact.schedule.positions) == ("keep", "compact")


def test_only_scores_that_do_not_depend_on_what_stays_are_recorded_ahead():
    diverse = {"layer": 4, "keep": {"ratio": 0.2}, "criterion": {"name": "diversity"}}
    first = {"layer": 2, "keep": {"ratio": 0.5}, "criterion": TEXT}
    (root,) = tree([Schedule(stages=[first, diverse]), schedule((2, 0.5), (5, 0.2)), schedule((2, 0.5), (5, 0.1))])
    (shared,) = root.branches.values()
    assert [layer for layer, _ in shared.keys] == [5]
