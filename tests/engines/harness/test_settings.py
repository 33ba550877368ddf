from __future__ import annotations

import pytest

from autoprune.engines.harness.settings import (
    batch_size_of,
    check_greedy_arguments,
    check_one_process,
    schedule_of,
    shortened_at,
)
from autoprune.errors import EvaluationError
from autoprune.presets import vtw
from autoprune.schedule import Schedule


def test_a_schedule_is_named_by_its_file(tmp_path):
    vtw(3).save(tmp_path / "schedule.json")
    assert schedule_of(str(tmp_path / "schedule.json")) == vtw(3)
    assert schedule_of("dense") == Schedule()
    assert schedule_of("") is None  # the one beside the weights


def test_longest_answer_and_stops():
    assert check_greedy_arguments({"max_new_tokens": 16, "until": ["\n\n"], "temperature": 0}) == (16, ("\n\n",))
    assert check_greedy_arguments({"until": "###", "do_sample": False, "temperature": 0.7}) == (1024, ("###",))
    assert check_greedy_arguments({}) == (1024, ())


@pytest.mark.parametrize("arguments", [{"do_sample": True}, {"temperature": 0.2}, {"num_beams": 4}])
def test_what_is_not_greedy_is_refused(arguments):
    with pytest.raises(EvaluationError, match="greedy"):
        check_greedy_arguments(arguments)


def test_an_answer_ends_at_the_first_stop():
    assert shortened_at("red\n\nblue ### x", ("###", "\n\n")) == "red"
    assert shortened_at("red", ("\n\n", "")) == "red"


def test_a_batch_is_a_number_of_rows():
    assert [batch_size_of(given) for given in (4, "4", "1")] == [4, 4, 1]
    with pytest.raises(EvaluationError, match="--batch_size"):
        batch_size_of("auto")


def test_several_processes_are_refused_by_name():
    check_one_process({})
    check_one_process({"WORLD_SIZE": "1"})
    with pytest.raises(EvaluationError, match="WORLD_SIZE"):
        check_one_process({"WORLD_SIZE": "2"})
