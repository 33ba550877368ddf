from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import transformers
from support.postgres import Postgres, postgres_programs, running_postgres
from support.scenes import save_rows, save_tiny

from autoprune.data.samples import load_samples
from autoprune.models.loading import load_model

transformers.logging.disable_progress_bar()


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU that torch can use")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A random LLaVA whose answers have 1 to 8 tokens."""
    return save_tiny(tmp_path_factory.mktemp("model"), eos_bias=2.5)


@pytest.fixture(scope="session")
def loaded(model_folder):
    return load_model(model_folder)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return load_samples(save_rows(tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt install postgresql)")
    with running_postgres(programs) as server:
        yield server
