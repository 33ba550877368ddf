"""A study from its file to its front. The driver alone touches the database, on one thread."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autoprune.errors import EvaluationError, StudyError
from autoprune.evaluate.metrics import EXACT_MATCH, load_metric
from autoprune.evaluate.results import SampleResult, summarise
from autoprune.models.environment import hardware, versions
from autoprune.schedule import Schedule
from autoprune.search import assembly
from autoprune.search.assembly import Found
from autoprune.search.collect import Collector
from autoprune.search.front import FrontFile
from autoprune.search.initial import initial_schedules
from autoprune.search.ledger import Ledger
from autoprune.search.lock import driver_lock
from autoprune.search.loop import SearchLoop
from autoprune.search.outputs import write_outputs
from autoprune.search.plan import check_against_data
from autoprune.search.space import SearchSpace
from autoprune.search.spec import StudySpec
from autoprune.search.stopping import StopRequest, noticing_interrupts
from autoprune.search.storage import Database
from autoprune.search.trials import Trials
from autoprune.search.workers.local import LocalExecutor, backend_module
from autoprune.search.workers.protocol import EngineFacts, Event, Executor, Inputs, OnEvent, ignore
from autoprune.search.workers.ray import RayExecutor

_VALIDATION_CHUNK = 64
_DENSE = Schedule()
_PACKAGES = ("autoprune", "torch", "transformers", "optuna", "ray")


@dataclass(frozen=True)
class RunOutcome:
    """How a study ended.

    Attributes:
        front: What it found.
        output: Folder of its files.
        interrupted: Whether Ctrl-C ended it before its time; it can be resumed.
        counts: Distinct trials by state.
    """

    front: FrontFile
    output: Path
    interrupted: bool
    counts: dict[str, int]


def run_study(
    spec: StudySpec, *, on_event: OnEvent = ignore, backend: str = "autoprune.search.workers.engine"
) -> RunOutcome:
    """Runs a study, or resumes it; writes ``front.json``, ``front.csv`` and ``study.yaml`` to its output folder.

    Args:
        spec: The study.
        on_event: Hears how it goes.
        backend: Module that reads the inputs and opens the model (see `tasks.Backend`).

    Raises:
        StudyError: the study cannot run as it is described: folder in use, database or earlier trials do not fit.
        KeyboardInterrupt: Ctrl-C before there was anything to write, or a second one.
        DataError: rows that cannot be used.
        ModelError: the model cannot be loaded or measured.
        EvaluationError: the dense model fails, or too many candidates do.
        StorageError: the database stayed away.
    """
    started = time.time()
    on_event(Event("phase", "reading data"))
    inputs = backend_module(backend).read_inputs(spec)
    check_against_data(spec, inputs)
    with ExitStack() as stack:
        stack.enter_context(driver_lock(spec.output_path))
        _refuse_another_study(spec)
        database = Database(spec.storage_url, on_event)
        stack.callback(database.close)
        ledger = Ledger(database)
        space = SearchSpace.of(spec.space, inputs.num_layers)
        trials = Trials(spec, database, space, _identity(spec, inputs))
        interrupted = stack.enter_context(noticing_interrupts(on_event))
        on_event(Event("phase", "loading the model and answering the calibration rows"))
        executor = _executor(spec, backend, on_event)
        stack.callback(executor.close)
        facts = executor.start()
        trials.check_identity({"model_fingerprint": facts.fingerprint})
        collector = Collector(executor, ledger, on_event, interrupted)
        found = Found(spec, inputs, facts, ledger, trials.all())
        dense = _dense(found, collector, interrupted)
        trials.enqueue(initial_schedules(spec.baselines, space, inputs.num_layers))
        on_event(Event("phase", "searching", 0, spec.search.trials))
        SearchLoop(
            spec, trials, executor, ledger, found.key("calibration"), inputs.calibration, dense, on_event, interrupted
        ).run()
        found.trials = trials.all()
        searched = time.time()
        try:
            _measure_front(found, collector, on_event, interrupted)
        finally:  # hours of search are worth a front even if these last measurements fail
            found.notes = _notes(spec, facts, executor, interrupted, started, searched)
            front = assembly.assemble(found)
            write_outputs(front, spec.output_path, spec)
    return RunOutcome(front, spec.output_path, interrupted.yes, front.study["counts"])


def _executor(spec: StudySpec, backend: str, on_event: OnEvent) -> Executor:
    if spec.workers.count == 0:
        return LocalExecutor(spec, backend)
    return RayExecutor(spec, backend, on_event)


def _identity(spec: StudySpec, inputs: Inputs) -> dict[str, Any]:
    """What every trial of a study must have in common."""
    identity: dict[str, Any] = {
        "objectives": [*spec.objectives, *_judged_by(spec)],
        "space": spec.space.model_dump(mode="json"),
        "calibration": inputs.calibration.digest,
    }
    if spec.storage is not None:  # two drivers must not share a study; the lock guards one folder only
        identity["output"] = spec.output
    return identity


def _judged_by(spec: StudySpec) -> list[str]:
    """The metric of another package: without one, studies stay what they were before there were any."""
    metric = load_metric(spec.metric)
    return [f"metric {metric.name}@{metric.version}"] if metric != EXACT_MATCH else []


def _refuse_another_study(spec: StudySpec) -> None:
    written = spec.output_path / "front.json"
    if not written.exists():
        return
    try:
        name = json.loads(written.read_text(encoding="utf-8"))["study"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = None
    if name != spec.name:
        raise StudyError(
            f"holds the results of {'another program' if name is None else f'the study {name!r}'}",
            field="output",
            value=spec.output,
            remedy="choose another output; nothing was written over",
        )


def _dense(found: Found, collector: Collector, interrupted: StopRequest) -> list[SampleResult]:
    data = found.inputs.calibration
    failed = collector.measure(found.key("calibration"), "calibration", [_DENSE], data.size, data.size, 1)
    dense = found.results("calibration", _DENSE)
    if dense is None and interrupted():
        raise KeyboardInterrupt
    if dense is None:
        raise EvaluationError(
            f"the dense model cannot be measured: {failed[_DENSE.key]}",
            remedy="check the model and the calibration rows with the unpatched model first",
        )
    return dense


def _measure_front(found: Found, collector: Collector, on_event: OnEvent, interrupted: StopRequest) -> None:
    """Controls, held-out figures and times of what the front will show; skipped after Ctrl-C."""
    shown = assembly.shown_schedules(found)
    arms = [arm for _, _, arm in assembly.controls_of(found)]
    data = found.inputs.calibration
    failed: dict[str, str] = {}
    if not interrupted():
        on_event(Event("phase", "control arms"))
        failed |= collector.measure(found.key("calibration"), "calibration", arms, data.size, data.size, together=4)
    held_out = found.inputs.validation
    if held_out and not interrupted():
        on_event(Event("phase", "validation"))
        everything = [*shown, *arms]
        failed |= collector.measure(
            found.key("validation"), "validation", everything, held_out.size, _VALIDATION_CHUNK, len(everything)
        )
    for reason in dict.fromkeys(failed.values()):
        on_event(Event("warning", f"a schedule of the front could not be measured: {reason}"))
    if not interrupted():
        on_event(Event("phase", "latency"))
        points = [assembly.schedule_of(t) for t in assembly.front_trials(found.spec, found.trials)]
        found.latencies = collector.latencies(_worth_timing(found, points))


def _worth_timing(found: Found, shown: Sequence[Schedule]) -> list[Schedule]:
    """Points over the whole range of losses that somebody may accept, the cheapest for each."""
    split = "validation" if found.inputs.validation else "calibration"
    figures = {s.key: summarise(results) for s in shown if (results := found.results(split, s))}
    dense = found.results(split, _DENSE)
    if dense is None or not figures:
        return []
    best = summarise(dense).accuracy
    # Where no point is near dense, the nearest is the one that people look at first.
    nearest = best - max(f.accuracy for f in figures.values())
    chosen: dict[str, Schedule] = {}
    for bound in (nearest, 0.01, 0.02, 0.05, 0.0, 0.1, 0.005, 0.2, 1.0):
        within = [s for s in shown if s.key in figures and best - figures[s.key].accuracy <= bound + 1e-9]
        if within:
            cheapest = min(within, key=lambda s: figures[s.key].flops_ratio)
            chosen[cheapest.key] = cheapest
    return list(chosen.values())


def _notes(
    spec: StudySpec,
    facts: EngineFacts,
    executor: Executor,
    interrupted: StopRequest,
    started: float,
    searched: float,
) -> dict[str, Any]:
    now = time.time()
    return {
        "complete": not interrupted.yes,
        "started": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        "seconds": round(now - started, 1),
        "seconds_search": round(searched - started, 1),
        "hardware": {
            **hardware(),
            "gpu": facts.details.get("gpu"),
            "device": facts.details.get("device"),
            "workers": spec.workers.count,
            "threads": spec.workers.cpus,
        },
        "versions": versions(_PACKAGES),
        "worker_restarts": executor.restarts(),
    }
