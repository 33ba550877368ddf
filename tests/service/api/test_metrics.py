"""Metrics as Prometheus reads them."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families


def samples(client: TestClient) -> dict[tuple[str, ...], float]:
    reply = client.get("/metrics")
    assert reply.status_code == 200
    families = text_string_to_metric_families(reply.text)
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_jobs_and_requests_are_counted(client: TestClient, study: dict[str, Any]) -> None:
    client.post("/v1/studies", json=study)
    for _ in range(3):
        client.get("/v1/studies/nobody")
    found = samples(client)
    assert found["autoprune_jobs", "study", "queued"] == 1
    assert found["autoprune_jobs", "verification", "running"] == 0
    assert found["autoprune_oldest_queued_seconds",] >= 0
    assert found["autoprune_busy_runners",] == found["autoprune_overdue_jobs",] == 0
    assert found["http_requests_total", "/v1/studies/{id}", "GET", "4xx"] == 3
    assert found["http_requests_total", "/v1/studies", "POST", "2xx"] == 1


def test_asking_for_metrics_is_no_request_to_count(client: TestClient) -> None:
    samples(client)
    assert not [key for key in samples(client) if "/metrics" in key]
