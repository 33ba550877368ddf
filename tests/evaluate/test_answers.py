"""Rules for answers, against examples worked out by hand from the papers that define them."""

from __future__ import annotations

import pytest

from autoprune.errors import StudyError
from autoprune.evaluate.answers import anls, exact_match, normalize_answer, relaxed_accuracy, token_f1, vqa_accuracy
from autoprune.evaluate.metrics import EXACT_MATCH, METRICS, evidence_metric, load_metric, measuring_version


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Red car.", "red car"),
        ("  two  dogs\n", "2 dogs"),
        ("none", "0"),
        ("A cat, and an apple!", "cat and apple"),
        ("1,000", "1000"),
        ("3.5", "3.5"),
        ("U.S.", "us"),
        ("dont know", "don't know"),
        ("don't know", "don't know"),
        ("well done", "well done"),
        ("black-and-white", "black and white"),
        ("yes/no", "yes no"),
        ("10:30", "10:30"),
        ("$5", "$5"),
        ("", ""),
    ],
)
def test_normalisation(text, normal):
    assert normalize_answer(text) == normal


def test_exact_match_takes_any_accepted_answer_and_normalises_both_sides():
    assert exact_match("The two.", ["one", "2"]) == 1.0
    assert exact_match("two", ["Two dogs"]) == 0.0
    assert exact_match("anything", []) == 0.0


@pytest.mark.parametrize(("votes", "expected"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_vqa_accuracy_of_ten_people(votes, expected):
    # Three of ten said so: three subsets of nine hold 2 of the 3, the other seven all of them: (3 * 2/3 + 7) / 10.
    answers = ["Two."] * votes + [f"other {i}" for i in range(10 - votes)]
    assert vqa_accuracy("2", answers) == pytest.approx(expected)


def test_vqa_accuracy_of_fewer_answers():
    assert vqa_accuracy("The red.", ["red"]) == 1.0
    assert vqa_accuracy("blue", ["red"]) == 0.0
    assert vqa_accuracy("red", ["red", "blue"]) == 0.5
    assert vqa_accuracy("red", ["red"] * 3) == 1.0
    assert vqa_accuracy("red", []) == 0.0


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("hallo", ["hello"], 0.8),  # one edit of five characters
        ("Coca  Cola", ["coca cola"], 1.0),
        ("kitten", ["sitting"], 1 - 3 / 7),
        ("ab", ["ac"], 0.0),  # half of it is wrong: the threshold of 0.5 itself counts nothing
        ("abc", ["axc"], 1 - 1 / 3),
        ("abc", ["zzzzz", "abd"], 1 - 1 / 3),  # the best of the accepted answers
        ("", ["x"], 0.0),
        ("x", [], 0.0),
    ],
)
def test_anls(text, answers, expected):
    assert anls(text, answers) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("95", "100", 1.0),
        ("105", "100", 1.0),
        ("94.9", "100", 0.0),
        ("3.15", "3.0", 1.0),
        ("-20", "-20.5", 1.0),
        ("20", "-20", 0.0),
        ("1,024", "1000", 1.0),
        ("26%", "0.25", 1.0),
        ("25", "25%", 0.0),
        ("0", "0.0", 1.0),
        ("0.001", "0", 0.0),
        ("Yes ", "yes", 1.0),
        ("United States", "united kingdom", 0.0),
        ("2005-2010", "2005", 0.0),
        ("nan", "5", 0.0),
    ],
)
def test_relaxed_accuracy(text, answer, expected):
    assert relaxed_accuracy(text, ["other", answer]) == expected


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("the red car", ["a red bus"], 0.5),  # precision 1/2, recall 1/2
        ("red", ["red car now"], 0.5),  # precision 1, recall 1/3
        ("Red, car!", ["red car"], 1.0),
        ("red red", ["red"], 2 / 3),  # a word counts as often as both have it
        ("the", ["a"], 1.0),
        ("red", ["the"], 0.0),
        ("x", ["y", "x"], 1.0),
    ],
)
def test_token_f1(text, answers, expected):
    assert token_f1(text, answers) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_built_in_metrics_have_a_name_a_version_and_an_address_of_their_own(name):
    metric = load_metric(name)
    assert metric("red", ["red"]) == 1.0
    assert metric("red", ["red"] * 10) == 1.0
    assert metric("blue", ["red"]) == 0.0
    assert evidence_metric(metric.evidence) is metric
    assert measuring_version(metric) == ("1" if metric is EXACT_MATCH else f"1+{name}@1")


def test_a_slip_in_a_name_is_recognised():
    with pytest.raises(StudyError, match=r"did you mean relaxed_accuracy\?"):
        load_metric("relaxed_acuracy")
