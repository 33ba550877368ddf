"""The table of checks: each a function from a case to a finding; one more is one function and one row."""

from __future__ import annotations

from collections.abc import Callable

from autoprune.doctor.case import Case
from autoprune.doctor.checks.bookkeeping import entries, fired, positions
from autoprune.doctor.checks.equality import decisions, identity, masked_reference, undo
from autoprune.doctor.checks.modes import other_kernel, padded_batch, without_cache
from autoprune.doctor.finding import Finding

Check = Callable[[Case], Finding]
IDENTITY: dict[str, Check] = {"identity": identity}
"""Under a schedule that keeps everything."""

CHECKS: dict[str, Check] = {
    "pruning fired": fired,
    "masked reference": masked_reference,
    "decisions": decisions,
    "KV lengths": entries,
    "positions": positions,
    "padded batch": padded_batch,
    "without cache": without_cache,
    "other kernel": other_kernel,
    "undo": undo,
}
"""Under every schedule."""
