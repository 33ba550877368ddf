"""What a check says: pass, fail or not applicable, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["pass", "fail", "not applicable"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check under one schedule."""

    status: Status
    reason: str


def passed(reason: str) -> Finding:
    """It holds."""
    return Finding("pass", reason)


def failed(reason: str) -> Finding:
    """It does not hold."""
    return Finding("fail", reason)


def inapplicable(reason: str) -> Finding:
    """It says nothing here."""
    return Finding("not applicable", reason)


def compared(found: float, allowed: float, effect: float, what: str) -> Finding:
    """The finding of a comparison.

    Args:
        found: How far apart the two sides are.
        allowed: How far apart rounding can bring them.
        effect: How far pruning moves the same numbers; if that is not more than `allowed`, the comparison is blind.
        what: What was compared.
    """
    figures = f"{found:.1e} apart, {allowed:.1e} allowed, pruning itself {effect:.1e}"
    if not found <= allowed:  # also when it is NaN
        return failed(f"{what}: {figures}")
    if effect <= allowed:
        return inapplicable(
            f"{what}: pruning moves the logits by {effect:.1e}, two dense runs may differ by {allowed:.1e}"
        )
    return passed(f"{what}: {figures}")
