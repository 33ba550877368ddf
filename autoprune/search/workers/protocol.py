"""The values that driver and workers exchange, and the protocols of engine, backend and executor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.sharing import Sharing
from autoprune.pricing.tokens import PromptCounts
from autoprune.schedule import Schedule

if TYPE_CHECKING:
    from autoprune.evaluate.preflight import Preflight

Split = Literal["calibration", "validation"]
Verb = Literal["evaluate", "latency"]
Times = Mapping[str, Any]
"""Milliseconds of one schedule and of the dense model, measured side by side."""


@dataclass(frozen=True)
class Event:
    """One step of a running study, for whoever shows its progress.

    Attributes:
        kind: ``note`` = something to read; ``phase`` = a part of the study begins (`message` names it); ``progress`` =
            the phase got further; ``trial`` = a trial ended (`data`: trial, state, name, values, reason); ``warning`` =
            something to know.
        message: One line for people.
        done: How much of the current phase is done.
        total: Of how much, if that is known.
        data: The same for programs.
    """

    kind: Literal["note", "phase", "progress", "trial", "warning"]
    message: str
    done: int = 0
    total: int | None = None
    data: dict[str, Any] = field(default_factory=dict)


OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener that does nothing."""


@dataclass(frozen=True)
class SplitFacts:
    """A data set. A row is the place of a sample in it, counted from 0.

    Attributes:
        path: Where it came from.
        digest: Of its content and order.
        groups: Cluster of each row.
        tasks: Task of each row; None where it names none.
        kinds: Rows of each kind, see `SampleSet.kinds`.
        unread: Columns that no field takes.
    """

    path: str
    digest: str
    groups: tuple[str, ...]
    tasks: tuple[str | None, ...]
    kinds: Mapping[str, int] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(self.groups)


@dataclass(frozen=True)
class Inputs:
    """Configuration and data of a study, read before a model is loaded.

    Attributes:
        config: The model's configuration (transformers), for identities and costs.
        num_layers: Decoder layers.
        calibration: The rows of the search.
        validation: The held-out rows, if there are any.
    """

    config: Any
    num_layers: int
    calibration: SplitFacts
    validation: SplitFacts | None


@dataclass(frozen=True)
class EngineFacts:
    """Facts of a loaded model and of how it is measured.

    Attributes:
        fingerprint: Of the model's weights and configuration.
        metric_version: Changes when the same schedule would be measured differently.
        convention: What the FLOPs count, in words.
        details: For the report: dtype, device, tokens per row.
        prompts: Token counts of each calibration row, so that schedules can be priced without the model.
        number_bytes: Bytes of one number in the KV cache.
        refused: Reasons by label, of the criteria that the loaded model cannot score.
        preflight: What a first look at the model on its data found; None where there was none.
    """

    fingerprint: str
    metric_version: str
    convention: str
    details: dict[str, Any]
    prompts: tuple[PromptCounts, ...]
    number_bytes: int
    refused: Mapping[str, str] = field(default_factory=dict)
    preflight: Preflight | None = None


class Engine(Protocol):
    """The model and the data in one process.

    Attributes:
        sharing: Work on candidates so far, and how much of it was shared.
    """

    sharing: Sharing

    def facts(self) -> EngineFacts:
        """Facts of the loaded model."""

    def peak_bytes(self) -> int:
        """Largest memory so far; 0 where it is not known."""

    def evaluate(self, split: Split, schedules: Sequence[Schedule], rows: Sequence[int]) -> list[list[SampleResult]]:
        """Results of these rows, in this order, under each schedule; EvaluationError if a candidate fails."""

    def latency(self, schedules: Sequence[Schedule]) -> list[Times]:
        """Times of each schedule."""


class Backend(Protocol):
    """A module that reads the inputs and opens the engine; workers import it by name."""

    def read_inputs(self, spec: Any) -> Inputs:
        """Reads and checks configuration and data; loads no model."""

    def preflight(self, spec: Any) -> Preflight:
        """Loads the model and looks at it on a few rows."""

    def open_engine(self, spec: Any) -> Engine:
        """Loads the model and prepares the measurement."""


@dataclass(frozen=True)
class Task:
    """A piece of work for one worker.

    Attributes:
        number: Unique within a run.
        verb: ``evaluate`` returns results per schedule, ``latency`` a dictionary per schedule.
        schedules: The candidates.
        split: Of the data.
        rows: Places of the samples in the data set.
    """

    number: int
    verb: Verb
    schedules: tuple[Schedule, ...]
    split: Split = "calibration"
    rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class TaskResult:
    """Result of a task: exactly one of `value`, `failure`, `lost` and `bug` is set.

    Attributes:
        value: What the engine returned.
        failure: Why the candidate cannot be evaluated.
        lost: What is known of the death of the worker.
        bug: The exception that no candidate can be blamed for.
        worker: Name of the worker.
        sharing: Work on the candidates, and how much of it was shared.
        peak_bytes: Largest memory of the worker so far.
    """

    task: Task
    value: Any = None
    failure: str | None = None
    lost: str | None = None
    bug: BaseException | None = None
    worker: str = ""
    sharing: Sharing = field(default_factory=Sharing)
    peak_bytes: int = 0


class Executor(Protocol):
    """Runs tasks on workers. It never repeats a task: only the driver does."""

    def start(self) -> EngineFacts:
        """Starts the workers; returns when the first one is ready. Raises what kept it from loading."""

    def free(self) -> int:
        """Tasks that can be submitted now."""

    def submit(self, task: Task) -> None:
        """Gives a task to a free worker."""

    def wait(self, timeout: float) -> list[TaskResult]:
        """Tasks that ended, at the latest after `timeout` seconds; dead workers are replaced meanwhile."""

    def restarts(self) -> int:
        """Workers that were replaced."""

    def peak_bytes(self) -> int:
        """Largest memory of a worker so far; 0 where it is not known."""

    def sharing(self) -> Sharing:
        """Work of all workers on candidates so far; what workers that died had not reported is missing."""

    def close(self) -> None:
        """Ends the workers."""
