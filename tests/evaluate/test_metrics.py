"""Distances of distributions against plain formulas."""

from __future__ import annotations

import math

import pytest
import torch

from autoprune.evaluate.metrics import kl_divergence, token_log_probabilities


def test_kl_is_zero_on_itself_and_follows_the_formula():
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])
    expected = 0.5 * math.log(2) + 0.25 * math.log(0.5)
    assert kl_divergence(p.log(), q.log() + 3.0).item() == pytest.approx(expected, abs=1e-6)
    logits = torch.randn(4, 7)
    assert kl_divergence(logits, logits).tolist() == [0.0] * 4


def test_kl_is_asymmetric_dense_first():
    p, q = torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log()
    assert kl_divergence(p, q).item() == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2), abs=1e-6)


def test_half_precision_logits_are_compared_in_full_precision():
    dense, pruned = torch.randn(3, 50), torch.randn(3, 50)
    half = kl_divergence(dense.bfloat16(), pruned.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, kl_divergence(dense.bfloat16().float(), pruned.bfloat16().float()))


def test_token_log_probabilities():
    logits = torch.randn(2, 3, 5)
    tokens = torch.tensor([[0, 4, 2], [1, 1, 3]])
    expected = logits.log_softmax(-1)
    for b in range(2):
        for t in range(3):
            got = token_log_probabilities(logits, tokens)[b, t]
            assert got.item() == pytest.approx(expected[b, t, tokens[b, t]].item(), abs=1e-6)
