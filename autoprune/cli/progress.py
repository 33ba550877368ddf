"""Live view of a running study on stderr: one bar per phase, and the best schedules so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from autoprune.cli.output import stderr

if TYPE_CHECKING:
    from autoprune.search.workers.protocol import Event

_SHOWN = 4
_PLAIN_EVERY = 20.0
"""Seconds between lines when stderr is no terminal: a log wants to know that it goes on, not every step."""


class StudyView:
    """A context manager whose `listen` takes the events of a study.

    Args:
        objectives: Names of the values that a trial's event carries, in their order.
    """

    def __init__(self, objectives: Sequence[str]) -> None:
        self._objectives = objectives
        self._console = stderr()
        columns = (
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=self._console)
        self._task: TaskID | None = None
        self._best: list[tuple[float, float, str]] = []
        self._counts: dict[str, int] = {}
        self._phase, self._printed = "", 0.0
        self._live = Live(console=self._console, refresh_per_second=4, get_renderable=self._render)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish_phase()
        self._live.stop()

    def listen(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "note":
            self._console.print(event.message, soft_wrap=True)
        elif event.kind == "warning":
            self._console.print(f"warning: {event.message}")
        elif event.kind == "phase":
            self._begin(event)
        else:
            if event.kind == "trial":
                self._count_trial(event.data)
            self._advance(event)

    def _begin(self, event: Event) -> None:
        self._finish_phase()
        self._phase = event.message
        self._task = self._progress.add_task(
            event.message, total=event.total, completed=event.done, count=_count(event)
        )
        self._plain(event, always=True)

    def _finish_phase(self) -> None:
        if self._task is not None:
            self._progress.update(self._task, total=1, completed=1)
            self._progress.stop_task(self._task)

    def _advance(self, event: Event) -> None:
        if self._task is not None and event.total:
            self._progress.update(self._task, completed=event.done, total=event.total, count=_count(event))
        self._plain(event)

    def _count_trial(self, trial: dict[str, Any]) -> None:
        self._counts[trial["state"]] = self._counts.get(trial["state"], 0) + 1
        values = trial.get("values")
        if trial["state"] != "COMPLETE" or not values or trial.get("duplicate_of") is not None:
            return
        cost, quality = _cost_and_quality(dict(zip(self._objectives, values, strict=True)))
        self._best.append((cost, quality, str(trial.get("name") or f"trial {trial['trial']}")))
        self._best = [
            a for a in self._best if not any(b[0] <= a[0] and b[1] >= a[1] and b[:2] != a[:2] for b in self._best)
        ]

    def _plain(self, event: Event, always: bool = False) -> None:
        if self._console.is_terminal or not (always or time.monotonic() - self._printed > _PLAIN_EVERY):
            return
        self._printed = time.monotonic()
        best = "" if always or not self._best else f"; {self._summary()}"
        self._console.print(f"{self._phase} {_count(event)}{best}".rstrip(), soft_wrap=True)

    def _summary(self) -> str:
        """The front so far, best quality first."""
        best = sorted(self._best, key=lambda item: -item[1])[:_SHOWN]
        return "best so far: " + " · ".join(
            f"{_quality(quality)} at {cost:.1%} ({name})" for cost, quality, name in best
        )

    def _render(self) -> Group:
        counts = ", ".join(f"{n} {state.lower()}" for state, n in sorted(self._counts.items()))
        lines = [line for line in (counts, self._summary() if self._best else "") if line]
        return Group(self._progress, *(Text(line, style="dim", overflow="ellipsis", no_wrap=True) for line in lines))


def _count(event: Event) -> str:
    return f"{event.done}/{event.total}" if event.total else ""


def _quality(value: float) -> str:
    """Only KL is ranked by its negative."""
    return f"{value:.3f}" if value >= 0 else f"{-value:.3f} nats"


def _cost_and_quality(values: dict[str, float]) -> tuple[float, float]:
    """The first cost, and the first quality with more meaning better."""
    from autoprune.evaluate.objectives import COSTS, OBJECTIVES, QUALITIES

    cost = next(values[name] for name in COSTS if name in values)
    name = next(name for name in QUALITIES if name in values)
    return cost, -OBJECTIVES[name].minimised(values[name])
