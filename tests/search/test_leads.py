from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from autoprune.evaluate.objectives import ACCURACY, KL
from autoprune.evaluate.results import SampleResult
from autoprune.search.leads import lead


def rows(right: list[float], groups: list[str] | None = None) -> list[SampleResult]:
    named = groups or [f"g{i}" for i in range(len(right))]
    return [
        SampleResult(i, f"r{i}", None, group, value, value, 1.0 - value, "", True, 1, 1, 1, 1, 1, 1)
        for i, (value, group) in enumerate(zip(right, named, strict=True))
    ]


def test_the_lead_is_that_of_the_first_and_its_interval_holds_it():
    found = lead(ACCURACY, rows([1.0] * 90 + [0.0] * 10), rows([1.0] * 70 + [0.0] * 30))
    assert found.mean == pytest.approx(0.2)
    assert 0 < found.low < found.mean < found.high
    assert found.p < 0.001
    assert found.samples == 100


def test_less_is_better_where_the_quality_says_so():
    better, worse = rows([1.0] * 40 + [0.0] * 10), rows([1.0] * 20 + [0.0] * 30)
    assert lead(KL, better, worse).mean == pytest.approx(0.4)
    assert lead(KL, worse, better).high < 0


def test_rows_of_one_image_count_as_one():
    ours, theirs = [1.0] * 20 + [0.0] * 4, [0.0] * 4 + [1.0] * 16 + [0.0] * 4
    single = lead(ACCURACY, rows(ours), rows(theirs))
    clustered = lead(
        ACCURACY, rows(ours, [f"g{i // 4}" for i in range(24)]), rows(theirs, [f"g{i // 4}" for i in range(24)])
    )
    assert clustered.mean == single.mean
    assert clustered.p > single.p


def test_only_rows_of_both_are_compared():
    ours = rows([1.0] * 30)
    assert lead(ACCURACY, ours, rows([0.0] * 12)).samples == 12
    assert lead(ACCURACY, ours, []) is None
    assert lead(KL, rows([1.0, 0.0], ["g", "g"]), rows([0.0, 0.0], ["g", "g"])) is None


def test_schedules_that_are_equally_good_are_told_apart_as_rarely_as_the_error_says():
    rng, told, draws = np.random.default_rng(0), 0, 400
    for _ in range(draws):
        ours, theirs = (rng.random((2, 120)) < 0.85).astype(float)
        told += lead(ACCURACY, rows(list(ours)), rows(list(theirs))).p <= 0.05
    assert binomtest(told, draws, 0.05, alternative="greater").pvalue > 0.01
    assert told > draws * 0.05 / 10, "a test that never rejects is none"
