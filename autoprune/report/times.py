"""From FLOPs to time: what the timed points save of each."""

from __future__ import annotations

from dataclasses import dataclass

from autoprune.report.reading import flops_of, held_out, point_name, pruned_points
from autoprune.report.tables import key_of
from autoprune.report.words import milliseconds, percent, share_or_not_priced
from autoprune.search.front import FrontFile, Point
from autoprune.search.notes import PrefillTimes


@dataclass(frozen=True)
class TimeRow:
    """A timed point.

    Attributes:
        cells: FLOPs, prefill time, its spread, speed-up, share of the time saved per share of the FLOPs saved, FLOPs
            and speed-up end to end.
    """

    name: str
    key: str
    cells: list[str]


HEADS = ["Schedule", "FLOPs", "Prefill", "± spread", "× as fast", "Time saved ÷ FLOPs saved", "FLOPs end to end",
         "End to end", "× as fast"]  # fmt: skip


def time_rows(front: FrontFile) -> list[TimeRow]:
    """The timed points, cheapest first."""
    timed = [(point, point.latency) for point in pruned_points(front) if point.latency]
    return [TimeRow(point_name(p), key_of("front", p), _cells(p, times)) for p, times in timed]


def time_note(front: FrontFile) -> str:
    """How the times were taken."""
    timed = next((p.latency for p in front.points if p.latency), None)
    if timed is None:
        return ""
    dense = f" Dense takes {milliseconds(timed.prefill_dense_ms)}." if timed.prefill_dense_ms else ""
    batch = f", a batch of {timed.batch} rows" if timed.batch else ""
    tokens = f"; end to end generates {timed.new_tokens} tokens" if timed.new_tokens else ""
    return (
        f"Medians, dense and pruned in turn in one process{batch}, each schedule applied before its clock runs{tokens}."
        f"{dense} The time holds vision tower and projector, which no schedule makes faster and the FLOPs do not "
        "count. The spread is the interquartile range."
    )


def speed_up(own: float | None, dense: float | None) -> str:
    """``2.1×``, or a dash."""
    return f"{dense / own:.2f}×" if own and dense else "–"


def _cells(point: Point, times: PrefillTimes) -> list[str]:
    own, dense = times.prefill_ms, times.prefill_dense_ms
    saved = (1 - own / dense) / (1 - flops_of(point)) if dense and flops_of(point) < 1 else None
    return [
        percent(flops_of(point)),
        milliseconds(own),
        milliseconds(times.prefill_spread_ms),
        speed_up(own, dense),
        "–" if saved is None else f"{saved:.2f}",
        share_or_not_priced(held_out(point).flops_ratio_end_to_end),
        milliseconds(times.end_to_end_ms),
        speed_up(times.end_to_end_ms, times.end_to_end_dense_ms),
    ]
