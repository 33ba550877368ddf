from __future__ import annotations

import pytest

from autoprune.doctor import default_schedules, subject_of


@pytest.fixture(scope="session")
def subject(loaded):
    """A random LLaVA with its processor, asked made-up questions."""
    made = subject_of(loaded)
    made.dense, made.dense_batch, made.dense_uncached, made.kernel_noise  # noqa: B018 - before anything is broken
    return made


@pytest.fixture(scope="session")
def schedules(subject):
    return default_schedules(subject.model, subject.prompts.rows[0])
