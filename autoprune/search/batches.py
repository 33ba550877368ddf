"""Which candidates one worker gets together: those that share work, few enough that all workers are busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoprune.schedule import Schedule, Stage
from autoprune.search.initial import Origin

_MOST = 8
"""Candidates of one task: if one of them spoils it, all are measured again."""


@dataclass(frozen=True)
class Offer:
    """A candidate, and rows of it that can be measured now.

    Attributes:
        schedule: The candidate.
        rows: Places of the rows in the data.
        origin: Why it is tried.
        alone: Whether it must not share a task: it may have killed a worker.
    """

    schedule: Schedule
    rows: tuple[int, ...]
    origin: Origin
    alone: bool = False


def next_batch(offers: Sequence[Offer], workers: int) -> tuple[Offer, ...]:
    """The first offer, and those after it that are measured on the same rows and share its first stage.

    Candidates that only withdraw share everything before their withdrawal, so they count as alike. The order of the
    candidates is the policy's; what shares work decides only which of them go to one worker.

    Args:
        offers: What can be measured now, the most urgent first.
        workers: Workers that want a part of it.
    """
    first = offers[0]
    most = min(_MOST, -(-len(offers) // max(workers, 1)))
    alike = [offer for offer in offers[1:] if _are_alike(first, offer)]
    return (first, *alike[: most - 1])


def _are_alike(first: Offer, other: Offer) -> bool:
    if first.alone or other.alone or first.rows != other.rows or first.origin != other.origin:
        return False
    return _shared(first.schedule) == _shared(other.schedule)


def _shared(schedule: Schedule) -> Stage | None:
    """The first stage that selects; None where a schedule only withdraws."""
    return next((stage for stage in schedule.stages if stage.selects), None)
