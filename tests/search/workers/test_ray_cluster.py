"""Studies on a real Ray cluster of several nodes: they wait for their resources, and nodes come and go."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util.placement_group import placement_group, remove_placement_group
from support import fake_backend
from support.studies import BACKEND, tiny_spec
from support.trials import assert_all_ended, ended_twice

from autoprune.errors import ClusterBusyError, ModelError, StudyError
from autoprune.search.driver import RunOutcome, run_study
from autoprune.search.workers.protocol import Event, ignore
from autoprune.search.workers.ray import RayExecutor

TESTS = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head without CPUs, as beside a service, and one node."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        found.add_node(num_cpus=4, num_gpus=2)
        yield found
        ray.shutdown()
        found.shutdown()


@pytest.fixture
def run(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., RunOutcome]:
    """Runs a study on the cluster."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)

    def call(on_event: Callable[[Event], None], trials: int = 8, **workers: Any) -> RunOutcome:
        spec = tiny_spec(tmp_path, search={"trials": trials}, workers=workers)
        outcome = run_study(spec, on_event=on_event, backend=BACKEND)
        assert_all_ended(spec)
        assert not ended_twice(spec)
        return outcome

    return call


@pytest.mark.parametrize(
    ("workers", "field", "said"),
    [
        ({"count": 9}, "workers.cpus", "9 workers want 9 CPUs, Ray has 4"),
        ({"count": 2, "gpus": 2}, "workers.gpus", "2 workers want 4 GPUs, Ray has 2"),
        ({"count": 3, "gpus": 0.6}, "workers.count", "3 workers of 1 CPU and 0.6 GPUs do not fit .* 2 do"),
    ],
)
def test_what_never_fits_is_refused(run: Any, workers: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(StudyError, match=said) as raised:
        run(lambda event: None, **workers, wait=0)
    assert raised.value.field == field


def test_a_study_says_what_it_waits_for_and_goes_on_once_it_is_free(run: Any, cluster: Cluster) -> None:
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        others = placement_group([{"GPU": 1}])
        assert others.wait(30)
        phases: list[str] = []

        def listen(event: Event) -> None:
            if event.kind == "phase":
                phases.append(event.message)
            if event.message.startswith("waits"):
                remove_placement_group(others)

        assert run(listen, count=2, gpus=1, wait=60).counts["FAIL"] == 0
        waits = [place for place, phase in enumerate(phases) if phase.startswith("waits")]
        assert phases[waits[0]] == "waits for 2 GPUs; 1 is free"
        assert "there is room" in phases[waits[-1] + 1], "nobody is told to wait any more"
        assert ray.available_resources().get("GPU") == 2, "the study has given all of it back"
    finally:
        ray.shutdown()


def test_a_study_that_waited_long_enough_may_come_back(run: Any, cluster: Cluster) -> None:
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        others = placement_group([{"GPU": 1}])
        assert others.wait(30)
        with pytest.raises(ClusterBusyError, match="the study waits for 2 GPUs; 1 is free"):
            run(lambda event: None, count=1, gpus=2, wait=1)
    finally:
        ray.shutdown()


def test_a_file_that_a_node_lacks_is_named_with_the_node(run: Any, tmp_path: Path) -> None:
    def listen(event: Event) -> None:
        if event.message.startswith("loading"):
            (tmp_path / "validation.jsonl").unlink()

    with pytest.raises(StudyError, match=rf"is not on node {socket.gethostname()} \([\d.]+\)") as raised:
        run(listen, count=1)
    assert raised.value.field == "data.validation.path"


@pytest.mark.slow
def test_nodes_that_leave_and_join_in_the_middle(run: Any, cluster: Cluster, tmp_path: Path) -> None:
    """All nodes with workers are lost: their tasks are tried again on a node that joins."""
    (tmp_path / "slow").write_text("0.1")
    nodes = [*cluster.worker_nodes, cluster.add_node(num_cpus=1)]
    before: set[str] = set()

    def working() -> set[str]:
        return {line.split()[0] for line in (tmp_path / "tasks.log").read_text().splitlines()}

    def listen(event: Event) -> None:
        if event.kind == "trial" and event.done == 10 and not before:
            before.update(working())
            for node in nodes:
                cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(num_cpus=2)

    outcome = run(listen, trials=40, count=2)
    assert outcome.front.study.complete
    assert outcome.counts["FAIL"] == 0
    assert len(working() - before) == 2, "both workers went on, on the node that joined"


def test_a_node_with_another_model_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    executor = RayExecutor(tiny_spec(tmp_path), BACKEND, ignore)
    monkeypatch.setattr("autoprune.search.workers.ray.ray.get", lambda reference: reference)
    there = SimpleNamespace(actor=SimpleNamespace(node=SimpleNamespace(remote=lambda: "n2 (10.0.0.2)")))
    facts = fake_backend.open_engine(tiny_spec(tmp_path)).facts()
    for _ in range(2):
        executor._take_facts(there, facts)
    with pytest.raises(ModelError, match="differs on node n2"):
        executor._take_facts(there, replace(facts, fingerprint="another"))


def test_a_cluster_that_does_not_answer_is_told_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{nobody.getsockname()[1]}")
        with pytest.raises(ClusterBusyError, match="does not answer: Connection refused"):
            run_study(tiny_spec(tmp_path, workers={"count": 1}), backend=BACKEND)
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    with pytest.raises(StudyError, match="RAY_ADDRESS: is an address for Ray's client"):
        run_study(tiny_spec(tmp_path, workers={"count": 1}), backend=BACKEND)
