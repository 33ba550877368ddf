"""Distances between logits, and what a comparison can and cannot show."""

from __future__ import annotations

import math

import pytest
import torch

from autoprune.doctor.outcomes import allowed, compared, distance


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_distance_has_no_unit_and_ignores_what_the_softmax_ignores():
    a, b = noise(4, 50), noise(4, 50)
    b[:, 0] += 0.1
    assert distance(a, a) == 0
    assert distance(a + 7, a) < 1e-5
    assert distance(100 * b, 100 * a) == pytest.approx(distance(b, a), rel=1e-4)


def test_one_wrong_row_is_not_lost_among_many():
    a = noise(200, 50)
    b = a.clone()
    b[17] = b[17].flip(0)
    assert distance(a, b) > 0.5


@pytest.mark.parametrize("closed", [-math.inf, torch.finfo(torch.float32).min, torch.finfo(torch.float16).min])
def test_forbidden_tokens_do_not_count_unless_only_one_side_forbids_them(closed):
    a = noise(2, 50)
    b = a + 1e-3 * noise(2, 50)[:, torch.randperm(50, generator=torch.Generator().manual_seed(1))]
    expected = distance(a[:, 3:], b[:, 3:])
    a[:, :3] = b[:, :3] = closed
    assert distance(a, b) == pytest.approx(expected, rel=1e-3)
    b[0, 4] = closed
    assert distance(a, b) == math.inf


def test_a_comparison_fails_passes_or_is_blind():
    assert compared(1e-6, 1e-5, 0.5, "x").status == "pass"
    assert compared(1e-4, 1e-5, 0.5, "x").status == "fail"
    assert compared(math.nan, 1e-5, 0.5, "x").status == "fail"
    assert compared(1e-6, 1e-5, 1e-6, "x").status == "not applicable"
    assert compared(1e-4, 1e-5, 1e-6, "x").status == "fail"


def test_the_largest_noise_decides():
    assert allowed(1e-6, 1e-3) == allowed(1e-3) > 1e-3
