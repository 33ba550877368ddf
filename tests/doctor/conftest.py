from __future__ import annotations

import pytest

from autoprune.doctor import default_schedules, model_under_test


@pytest.fixture(scope="session")
def tested(loaded):
    """A random LLaVA with its processor and made-up questions."""
    tested = model_under_test(loaded)
    tested.dense, tested.dense_batch, tested.dense_uncached, tested.kernel_noise  # noqa: B018 - before anything is broken
    return tested


@pytest.fixture(scope="session")
def schedules(tested):
    return default_schedules(tested.model, tested.prompts.rows[0])
