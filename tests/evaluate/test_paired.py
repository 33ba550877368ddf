import numpy as np
import pytest
from scipy.stats import binomtest

from autoprune.evaluate.paired import holm, sign_test, signs, spending


def test_a_group_counts_once_by_its_sum() -> None:
    ours, theirs = [1, 1, 0, 1, 0, 1], [0, 0, 1, 0, 1, 1]
    found = signs(ours, theirs, ["a", "a", "b", "b", "c", "d"])
    assert (found.ahead, found.behind, found.groups) == (1, 1, 4)
    assert found.p == pytest.approx(0.75)


def test_rounding_is_no_difference() -> None:
    found = signs([0.1 + 0.2, 0.0], [0.3, 0.0], ["a", "b"])
    assert (found.ahead, found.behind) == (0, 0)
    assert found.p == 1.0


@pytest.mark.parametrize(("ahead", "behind"), [(0, 0), (0, 5), (1, 0), (7, 2), (300, 250)])
def test_the_p_value_is_the_exact_binomial_one(ahead: int, behind: int) -> None:
    expected = binomtest(ahead, ahead + behind, alternative="greater").pvalue if ahead + behind else 1.0
    assert sign_test(ahead, behind) == pytest.approx(expected)


def test_seven_unanimous_groups_are_significant_at_one_percent() -> None:
    assert sign_test(7, 0) < 0.01 < sign_test(6, 0)


def test_looks_spend_the_whole_error_once() -> None:
    assert spending([64, 128, 256, 512]) == [0.125, 0.125, 0.25, 0.5]
    assert spending([40]) == [1.0]


def test_looking_several_times_keeps_the_error() -> None:
    """Coins thrown 64 times, looked at four times; the bound is an equality for no discrete test, so it stays below."""
    heads = np.random.default_rng(0).integers(0, 2, (4000, 64)).cumsum(1)
    looks = [8, 16, 32, 64]
    stopped = [
        any(
            sign_test(int(row[n - 1]), n - int(row[n - 1])) <= 0.05 * share
            for n, share in zip(looks, spending(looks), strict=True)
        )
        for row in heads
    ]
    assert 0.01 < np.mean(stopped) <= 0.05


def test_holm_is_gentler_than_bonferroni_and_never_out_of_order() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}
