"""One large search on simulated workers, with what it costs its driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import lawful_backend
import psutil
from simulated import SimulatedExecutor
from sqlalchemy import create_engine, text
from transformers import LlamaConfig

from autoprune.schedule import Schedule
from autoprune.search import driver
from autoprune.search.policy.protocol import Losses, Policy, Proposal
from autoprune.search.problem import make_policy
from autoprune.search.spec import StudySpec


@dataclass
class Row:
    """What the driver needed over some of the candidates.

    Attributes:
        trials: Candidates that were begun until the end of the row.
        rate: Of them per second.
        ask: Milliseconds of an ask of the policy, mean.
        asks: Asks per candidate.
        tell: As `ask`, of a tell.
        cpu: Milliseconds of CPU of the driver per candidate.
        memory: MB of the driver.
        database: MB of the database.
    """

    trials: int
    rate: float
    ask: float
    asks: float
    tell: float
    cpu: float
    memory: float
    database: float


@dataclass
class Watch:
    """Sums up every so many candidates what the driver needed for them.

    Args:
        every: Candidates of a row.
        size: Bytes of the database now.
        shown: Takes each row.
    """

    every: int
    size: Callable[[], int]
    shown: Callable[[Row], None]
    rows: list[Row] = field(default_factory=list)
    asks: list[float] = field(default_factory=list)
    tells: list[float] = field(default_factory=list)
    _begun: tuple[float, float] | None = None

    def count(self, candidates: int) -> None:
        """Takes how many candidates were begun so far."""
        now = (time.perf_counter(), time.process_time())
        if self._begun is None:
            self._begun = now
        elif candidates // self.every > len(self.rows):
            self._sum_up(candidates, now[0] - self._begun[0], now[1] - self._begun[1])
            self._begun = (time.perf_counter(), time.process_time())

    def _sum_up(self, candidates: int, wall: float, cpu: float) -> None:
        row = Row(
            trials=candidates,
            rate=self.every / wall,
            ask=1000 * fmean(self.asks or [0.0]),
            asks=len(self.asks) / self.every,
            tell=1000 * fmean(self.tells or [0.0]),
            cpu=1000 * cpu / self.every,
            memory=psutil.Process().memory_info().rss / 1e6,
            database=self.size() / 1e6,
        )
        self.asks.clear()
        self.tells.clear()
        self.rows.append(row)
        self.shown(row)


class TimedPolicy:
    """A policy whose calls are timed, and whose candidates are counted."""

    def __init__(self, policy: Policy, watch: Watch) -> None:
        self._policy, self._watch = policy, watch
        self._begun: set[str] = set()

    def ask(self, *, begun_only: bool = False) -> Proposal | None:
        with _timed(self._watch.asks):
            proposal = self._policy.ask(begun_only=begun_only)
        if proposal is not None:
            self._begun.add(proposal.schedule.key)
            self._watch.count(len(self._begun))
        return proposal

    def tell(self, schedule: Schedule, losses: Losses, cost: Mapping[str, float]) -> None:
        with _timed(self._watch.tells):
            self._policy.tell(schedule, losses, cost)

    def fail(self, schedule: Schedule) -> None:
        self._policy.fail(schedule)


def study(folder: Path, trials: int, workers: int, sampler: str, storage: str | None) -> StudySpec:
    """A study of the law over a space of many millions of schedules."""
    config = LlamaConfig(num_hidden_layers=lawful_backend.LAYERS, hidden_size=64, num_attention_heads=4)
    config.save_pretrained(folder / "model")
    (folder / "calibration.jsonl").write_text("{}\n")
    content: dict[str, Any] = {
        "name": "scale",
        "model": {"path": str(folder / "model")},
        "data": {"calibration": {"path": str(folder / "calibration.jsonl")}},
        "space": {"criteria": ["last", "text", "visual"]},
        "baselines": ["vtw", "fastv"],
        "search": {"sampler": sampler, "trials": trials},
        "workers": {"count": workers},
        "output": str(folder / "run"),
        "storage": storage,
    }
    return StudySpec.load(content)


def search(spec: StudySpec, seconds: float, watch: Watch) -> driver.RunOutcome:
    """Runs a study through the driver itself; only its workers are not real, and the policy is timed."""

    def timed(*given: Any) -> TimedPolicy:
        return TimedPolicy(make_policy(*given), watch)

    with ExitStack() as stack:
        stack.enter_context(patch.object(SimulatedExecutor, "seconds", seconds))
        stack.enter_context(patch.object(driver, "RayExecutor", SimulatedExecutor))
        stack.enter_context(patch.object(driver, "make_policy", timed))
        return driver.run_study(spec, backend=lawful_backend.__name__)


def database_size(spec: StudySpec) -> Callable[[], int]:
    """What asks how many bytes the database of a study has now."""
    if spec.storage_url.startswith("sqlite"):
        return lambda: sum(file.stat().st_size for file in spec.output_path.glob("study.db*"))
    engine = create_engine(spec.storage_url)

    def ask() -> int:
        with engine.connect() as connection:
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    return ask


@contextmanager
def _timed(times: list[float]) -> Iterator[None]:
    begun = time.perf_counter()
    try:
        yield
    finally:
        times.append(time.perf_counter() - begun)
