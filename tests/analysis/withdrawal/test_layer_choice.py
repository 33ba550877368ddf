"""Which layer the rules take: VTW's as its authors' code does, ours only where the data leave no doubt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.golden import load

from autoprune.analysis.withdrawal.layer_choice import robust, vtw_compat
from autoprune.errors import DataError


def curves(means, samples=200, spread=0.0, seed=0) -> np.ndarray:
    """[samples, L] around means, with a relative spread."""
    noise = 1 + spread * np.random.default_rng(seed).standard_normal((samples, len(means)))
    return np.asarray(means) * noise


def test_vtw_takes_the_layers_that_its_authors_code_takes() -> None:
    golden = load("vtw_findk_mha12", "sdpa")
    kl = torch.ones(3, 12, dtype=torch.float64)
    kl[:, 5:] = golden.tensor("KL_di_total").double()
    chosen = golden.facts["selection"]
    assert any(isinstance(layer, int) for layer in chosen.values())
    for eta, layer in chosen.items():
        assert vtw_compat(kl, float(eta)) == (layer if isinstance(layer, int) else None)


def test_vtw_starts_at_five_and_stops_at_the_first_hit() -> None:
    kl = curves([0, 0, 0, 0, 0, 1.0, 0.001, 1.0, 0.002], samples=2)
    assert vtw_compat(kl, 0.003) == 6
    assert vtw_compat(kl, 1e-9) is None
    assert vtw_compat(kl[:, :5], 1.0) is None


def test_robust_wants_every_deeper_layer_below_the_bound() -> None:
    groups = range(200)
    assert robust(curves([1.0, 0.001, 1.0, 0.002, 0.001]), np.zeros(200), groups, 0.003) == 3
    assert robust(curves([1.0, 0.001, 0.001]), np.zeros(200), groups, 0.003) == 1
    assert robust(curves([0.0, 0.0]), np.zeros(200), groups, 0.003) == 0
    assert robust(curves([0.001, 0.001, 0.1]), np.zeros(200), groups, 0.003) is None


def test_robust_wants_certainty_and_not_a_lucky_mean() -> None:
    kl = np.full((100, 2), 1e-4)
    kl[0] = 0.2  # one sample of a hundred is wrecked: the mean is 0.0021, and among the next hundred there may be two
    assert kl.mean() < 0.003
    assert vtw_compat(np.hstack([np.ones((100, 5)), kl]), 0.003) == 5
    assert robust(kl, np.zeros(100), range(100), 0.003) is None
    kl[0] = 1e-4
    assert robust(kl, np.zeros(100), range(100), 0.003) == 0


def test_samples_of_a_group_count_as_one() -> None:
    kl = np.repeat([[0.0004], [0.0046]] * 4, 50, axis=0)
    assert kl.mean() == pytest.approx(0.0025)
    assert robust(kl, np.zeros(400), range(400), 0.003) == 0
    assert robust(kl, np.zeros(400), np.repeat(np.arange(8), 50), 0.003) is None


def test_the_bound_counts_from_the_noise_floor() -> None:
    noise = np.abs(np.random.default_rng(0).standard_normal(100)) * 0.01
    no_effect = noise[:, None] * np.ones((1, 3))
    groups = range(100)
    assert robust(no_effect, np.zeros(100), groups, 0.003) is None
    assert robust(no_effect, noise, groups, 0.003) == 0
    assert robust(no_effect + np.array([0.01, 0.001, 0.001]), noise, groups, 0.003) == 1


def test_few_groups_have_no_bound() -> None:
    with pytest.raises(DataError, match=r"at least 4 groups \(got 1\)"):
        robust(np.ones((1, 3)), np.zeros(1), ["a"])
    with pytest.raises(DataError, match=r"at least 4 groups \(got 3\).*count as one"):
        robust(np.ones((9, 3)), np.zeros(9), ["a", "b", "c"] * 3)
