"""Limits on how often somebody may ask; counted by each process of the api for itself."""

from __future__ import annotations

import math
import time

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from autoprune.service.api.problems import DeniedError

GUESSES = parse("10/minute")
"""Tokens that are nobody's, by address: whoever guesses must be slow."""


class Limits:
    """Counts what callers ask, and the wrong tokens of each address.

    Args:
        rate: Requests of one caller, such as ``600/minute``.
    """

    def __init__(self, rate: str) -> None:
        self._rate = parse(rate)
        self._counter = SlidingWindowCounterRateLimiter(MemoryStorage())

    def count(self, *caller: str) -> None:
        """Counts a request.

        Raises:
            DeniedError: there were too many of this caller.
        """
        if not self._counter.hit(self._rate, *caller):
            raise self._exceeded(self._rate, "too many requests", *caller)

    def check_guesses(self, address: str) -> None:
        """Looks whether an address may try a token.

        Raises:
            DeniedError: it tried too many that are nobody's.
        """
        if not self._counter.test(GUESSES, "guess", address):
            raise self._exceeded(GUESSES, "too many tokens that are not valid", "guess", address)

    def count_guess(self, address: str) -> None:
        """Counts a token that is nobody's."""
        self._counter.hit(GUESSES, "guess", address)

    def _exceeded(self, limit: RateLimitItem, message: str, *counted: str) -> DeniedError:
        wait = max(1, math.ceil(self._counter.get_window_stats(limit, *counted).reset_time - time.time()))
        return DeniedError(
            message, 429, remedy=f"wait {wait} s; {limit} are allowed", headers={"Retry-After": str(wait)}
        )
