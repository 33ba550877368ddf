"""The api as its OpenAPI document describes it: whatever a program sends, no reply is the server's own error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.fronts import save_front
from support.service import listening
from support.studies import write_study

from autoprune.service.api.app import create_app
from autoprune.service.settings import Settings
from autoprune.service.store.database import open_database
from autoprune.service.store.jobs import Jobs

CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The api with a study that is done and one that waits."""
    folder = tmp_path_factory.mktemp("described")
    service = Settings(folder=folder / "service", roots=(folder / "data",), rate="1000000/minute")
    write_study(folder / "data")
    engine = open_database(service.database_url)
    jobs = Jobs(engine)
    for name in ("done", "waiting"):
        jobs.submit("study", name, {"name": name})
    done = jobs.claim("a runner")
    assert done is not None
    save_front(service.output_of(done.id))
    jobs.finish(done, "done")
    with listening(create_app(service, engine)) as server:
        yield schemathesis.openapi.from_url(f"{server}/openapi.json")
    engine.dispose()


@pytest.mark.parametrize("examples", [8, pytest.param(150, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_nothing_that_is_sent_breaks_it(
    described: schemathesis.BaseSchema, mode: GenerationMode, examples: int
) -> None:
    tried = []
    for found in described.exclude(path_regex="/events$").get_all_operations():
        operation = found.ok()

        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def sent(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS)

        with suppress(Unsatisfiable):  # nothing can be wrong with a route that takes nothing
            sent()
            tried.append(operation.label)
    assert {"POST /v1/studies", "GET /v1/studies/{id}/schedule", "POST /v1/verifications"} <= set(tried)
