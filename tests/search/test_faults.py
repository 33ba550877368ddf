"""Workers and drivers that are killed. Each study here starts real Ray workers, which takes seconds."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support import fake_backend
from support.studies import BACKEND, tiny_spec
from support.trials import assert_all_ended, attempts, ended_twice, stored

from autoprune import presets
from autoprune.errors import EvaluationError
from autoprune.search.driver import run_study
from autoprune.search.workers.protocol import Event

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _workers_find_the_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


def test_killed_workers_and_a_poison_candidate(tmp_path: Path) -> None:
    """One study, three faults: a worker killed at work, a candidate that kills every worker, a candidate that fails."""
    himap, fastv = (presets.for_depth(name, fake_backend.LAYERS).key for name in ("himap", "fastv"))
    (tmp_path / "poison").write_text(himap)
    (tmp_path / "failing").write_text(fastv)
    (tmp_path / "slow").write_text("0.05")
    spec = tiny_spec(tmp_path, search={"trials": 24}, workers={"count": 2})
    killed: list[int] = []

    def listen(event: Event) -> None:
        if event.kind == "trial" and event.done == 12 and not killed:
            killed.append(int((tmp_path / "tasks.log").read_text().splitlines()[-1].split()[0]))
            os.kill(killed[0], signal.SIGKILL)

    outcome = run_study(spec, on_event=listen, backend=BACKEND)
    assert killed
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 24
    assert outcome.counts["FAIL"] == 2
    assert_all_ended(spec)
    assert not ended_twice(spec)
    by_key = {t.user_attrs["candidate"]["key"]: t for t in stored(spec)}
    assert by_key[himap].state.name == by_key[fastv].state.name == "FAIL"
    assert "2 workers died with it" in by_key[himap].user_attrs["measured"]["reason"]
    lost = [trial for trial, how in attempts(spec) if how == "lost"]
    assert lost.count(by_key[himap].number) == 2
    assert len(lost) <= 3, "the killed worker may have been between two tasks"
    assert outcome.front.study.worker_restarts >= 3
    assert outcome.front.study.hit_rate == 0.75, "each worker tells of each task"
    assert outcome.front.points


@pytest.mark.slow
def test_a_worker_that_cannot_load_the_model_ends_the_study_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("")
    spec = tiny_spec(tmp_path, search={"trials": 5}, workers={"count": 1})
    with pytest.raises(EvaluationError, match="the dense model gives non-finite logits") as raised:
        run_study(spec, backend=BACKEND)
    assert raised.value.remedy == "use another dtype"


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_driver_is_resumed(tmp_path: Path, workers: int) -> None:
    (tmp_path / "slow").write_text("0.05")
    sections: dict[str, Any] = {"search": {"trials": 24}, "workers": {"count": workers}}
    spec = tiny_spec(tmp_path, **sections)
    script = (
        "import sys; from pathlib import Path; from support.studies import tiny_spec, BACKEND\n"
        "from autoprune.search.driver import run_study\n"
        f"run_study(tiny_spec(Path({str(tmp_path)!r}), **{sections!r}), backend=BACKEND,\n"
        "    on_event=lambda e: print(e.done if e.kind == 'trial' else 0, flush=True))"
    )
    driver = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True, env=dict(os.environ)
    )
    assert driver.stdout is not None
    for line in driver.stdout:
        if line.strip().isdigit() and int(line) >= 8:
            break
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(0.5)
    before = {t.number: (t.state, t.values) for t in stored(spec) if t.state.is_finished()}
    assert 8 <= len(before) < 24
    (tmp_path / "slow").unlink()
    outcome = run_study(spec, backend=BACKEND)
    after = {t.number: (t.state, t.values) for t in stored(spec)}
    assert {n: after[n] for n in before} == before, "what has ended stays"
    assert outcome.counts["COMPLETE"] + outcome.counts["PRUNED"] == 24
    assert_all_ended(spec)
    assert not ended_twice(spec)
