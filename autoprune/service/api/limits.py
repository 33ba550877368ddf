"""Limits on how often and how long somebody may ask; counted by each process of the api for itself."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from autoprune.service.api.problems import DeniedError

GUESSES = parse("10/minute")
"""Tokens that are nobody's, by address: whoever guesses must be slow."""

STREAMS, STREAMS_OF_CALLER = 100, 20
"""Replies that go on until somebody leaves; each asks the database four times a second."""
_FREE_AGAIN_S = 10


class Streams:
    """Counts replies that go on, so that no caller takes the place of all others."""

    def __init__(self) -> None:
        self._open, self._lock = Counter[str](), threading.Lock()

    @contextmanager
    def one(self, caller: str) -> Iterator[None]:
        """A block in which a caller is sent such a reply.

        Raises:
            DeniedError: there are too many, of this caller or of all.
        """
        with self._lock:
            is_greedy = self._open[caller] >= STREAMS_OF_CALLER
            if is_greedy or self._open.total() >= STREAMS:
                raise DeniedError(
                    "watches too many studies at once" if is_greedy else "too many studies are watched",
                    429,
                    remedy=f"stop watching others; {STREAMS_OF_CALLER} of one caller and {STREAMS} in all are allowed",
                    headers={"Retry-After": str(_FREE_AGAIN_S)},
                )
            self._open[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[caller] -= 1


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
