"""A study from its file to its front, step by step. The driver alone touches the database, on one thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from autoprune.errors import StorageError
from autoprune.models.environment import hardware, versions
from autoprune.search.assembly import assemble
from autoprune.search.budget import searching
from autoprune.search.collect import Collector
from autoprune.search.costs import Phase, PhaseCost
from autoprune.search.dashboard import attach_note
from autoprune.search.estimate import Expected, estimate, preflight_line
from autoprune.search.front import FrontFile
from autoprune.search.initial import without_a_draw
from autoprune.search.inputs import read_inputs
from autoprune.search.ledger import Ledger
from autoprune.search.lock import claimed_folder
from autoprune.search.loop import SearchLoop
from autoprune.search.outputs import write_outputs
from autoprune.search.problem import make_policy, search_problem
from autoprune.search.scope import Scope
from autoprune.search.spec import StudySpec
from autoprune.search.stopping import noticing_signals
from autoprune.search.storage import Database
from autoprune.search.study import RunFacts, Study
from autoprune.search.trials import Trials, resumed
from autoprune.search.workers.local import LocalExecutor
from autoprune.search.workers.protocol import Event, Executor, OnEvent, Times, ignore
from autoprune.search.workers.ray import RayExecutor

_PACKAGES = ("autoprune", "torch", "transformers", "optuna", "ray")


@dataclass(frozen=True)
class RunOutcome:
    """End of a study: its front, and what stopped it.

    Attributes:
        front: Its points, baselines and control arms.
        output: Folder of its files.
        signum: Signal that ended it before its time; it can be resumed. None = none did.
        counts: Distinct trials by state.
    """

    front: FrontFile
    output: Path
    signum: int | None
    counts: dict[str, int]

    @property
    def interrupted(self) -> bool:
        """Whether it was ended before its time."""
        return self.signum is not None


def run_study(
    spec: StudySpec, *, on_event: OnEvent = ignore, backend: str = "autoprune.search.workers.engine"
) -> RunOutcome:
    """Runs a study, or resumes it; writes ``front.json``, ``front.csv`` and ``study.yaml`` to its output folder.

    Args:
        spec: The study.
        on_event: Is called with every step.
        backend: Module that reads the inputs and opens the model (see `protocol.Backend`).

    Raises:
        StudyError: the study cannot run as it is described: folder in use, database or earlier trials do not fit.
        KeyboardInterrupt: a signal before there was anything to write, or a second one.
        DataError: rows that cannot be used.
        ModelError: the model cannot be loaded or measured.
        EvaluationError: the dense model fails, or too many candidates do.
        StorageError: the database stayed away.
        ClusterError: Ray itself died; the front holds what was measured until then.
    """
    started = time.time()
    on_event(Event("phase", "reading data"))
    inputs = read_inputs(spec, backend)
    with ExitStack() as stack:
        claim = stack.enter_context(claimed_folder(spec.output_path, spec.name))
        database = Database(spec.storage_url, on_event, spec.storage_wait)
        stack.callback(database.close)
        stack.enter_context(database.claimed(spec.name))
        spec = resumed(spec, database)
        ledger = Ledger(database)
        scope = Scope.of(spec, inputs.config, inputs.num_layers)
        trials = Trials(spec, inputs, database, scope.space)
        stop = stack.enter_context(noticing_signals(on_event))

        on_event(Event("phase", "loading the model and answering the calibration rows"))
        executor = _executor(spec, backend, on_event)
        stack.callback(executor.close)
        with stop.ending_at_once():  # nothing is known yet that would be worth a front
            study = Study(spec, inputs, trials.admitted(executor.start()))
            claim.begun = True
            if "by_generating" in study.facts.details:
                on_event(Event("warning", study.facts.details["by_generating"]))
            for what, why in study.scope.left_out:
                on_event(Event("warning", f"{what} is left out: {why}"))
            expected = _said(study, on_event) if not trials.all() else None
            collector = Collector(study, executor, ledger, on_event, stop)
            dense = collector.dense()

        problem = search_problem(study)
        if idle := without_a_draw(spec.search.trials, len(problem.initial)):
            on_event(Event("warning", idle))
        policy = make_policy(study, problem)
        on_event(searching(spec.search))
        keys = [candidate.schedule.key for candidate in problem.initial]
        loop = SearchLoop(study, policy, keys, trials, executor, ledger, dense, on_event, stop)
        searched: float | None = None
        times: dict[str, Times] = {}

        def written(*, complete: bool) -> FrontFile:
            ended = tuple(trials.all())
            costs = collector.costs(ended, dense, times)
            run = _run_facts(study, executor, started, searched or time.time(), costs, expected, complete=complete)
            front = assemble(study, ended, collector.known(ended, dense, times), run)
            write_outputs(front, spec.output_path, spec)
            database.patiently(partial(attach_note, database.optuna, spec.name, spec.output_path))
            return front

        try:
            loop.run()
            searched, ended = time.time(), tuple(trials.all())
            collector.front(ended, dense)
            times = collector.times(ended, dense)
        except StorageError:
            raise  # what was measured cannot be read either
        except BaseException:  # hours of search are worth a front, whatever ends them
            written(complete=False)
            raise
        front = written(complete=not stop())
    return RunOutcome(front, spec.output_path, stop.signum, front.study.counts)


def _said(study: Study, on_event: OnEvent) -> Expected | None:
    """What the study is expected to take, said with what a first look at the model found."""
    found = study.facts.preflight
    if found is None:
        return None
    if found.doubt:
        on_event(Event("warning", found.doubt))
    expected = estimate(study.spec, study.inputs, study.scope, found)
    on_event(Event("note", preflight_line(found, expected), data={"preflight": found.to_dict(), **asdict(expected)}))
    return expected


def _executor(spec: StudySpec, backend: str, on_event: OnEvent) -> Executor:
    if spec.workers.count == 0:
        return LocalExecutor(spec, backend)
    return RayExecutor(spec, backend, on_event)


def _run_facts(
    study: Study,
    executor: Executor,
    started: float,
    searched: float,
    costs: Mapping[Phase, PhaseCost],
    expected: Expected | None,
    *,
    complete: bool,
) -> RunFacts:
    now = time.time()
    details, workers = study.facts.details, study.spec.workers
    return RunFacts(
        complete=complete,
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        seconds=round(now - started, 1),
        seconds_search=round(searched - started, 1),
        hardware={
            **hardware(),
            "gpu": details.get("gpu"),
            "device": details.get("device"),
            "workers": workers.count,
            "threads": workers.cpus,
        },
        versions=versions(_PACKAGES),
        worker_restarts=executor.restarts(),
        costs=costs,
        hit_rate=executor.sharing().hit_rate,
        peak_bytes=executor.peak_bytes() or None,
        estimate=expected,
    )
