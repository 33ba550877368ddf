"""What the threads that call a patched model know of one another: hooks never come or go in the middle of a pass."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from autoprune.errors import PatchError
from autoprune.runtime.frames import outwards


class Running:
    """Calls in progress on a patched model, in all threads.

    Calls note themselves: to look into the frames of a thread that runs crashes CPython 3.11.

    Attributes:
        prompting: An entry for each `patch.prompt` that is open in any thread.
    """

    def __init__(self) -> None:
        self.prompting: list[None] = []
        self._lock = threading.Lock()
        self._open = False
        self._callers: list[threading.Thread] = []

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a lock cannot be traced
    def enter(self) -> bool:
        """Notes that this thread begins a call; False if hooks come or go just now: it is to run as without them."""
        with self._lock:
            if self._open:
                self._callers.append(threading.current_thread())
            return self._open

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # a lock cannot be traced
    def leave(self) -> None:
        """Notes that this thread ended a call."""
        with self._lock:
            self._callers.remove(threading.current_thread())

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Within the block this thread is in a call, also between its passes."""
        entered = self.enter()
        try:
            yield
        finally:
            if entered:
                self.leave()

    def open(self) -> None:
        """From now on calls are noted, and pruned."""
        with self._lock:
            self._open = True

    def close(self) -> None:
        """From now on calls run dense, so that the hooks may go.

        Raises:
            PatchError: another thread is in the middle of a call.
        """
        own = threading.current_thread()
        with self._lock:
            other = next((thread for thread in self._callers if thread is not own and thread.is_alive()), None)
            if other is not None:
                raise PatchError(
                    "another thread is running this model, and would be pruned in half of a call",
                    field="model",
                    value=other.name,
                    remedy="replace and remove patches between calls: join the thread, or let both hold one lock",
                )
            self._open = False


@torch.compiler.disable  # type: ignore[untyped-decorator]  # compiled code has no frames to look at
def is_called(model: nn.Module) -> bool:
    """Whether this thread is inside a call of a module."""
    code = nn.Module._call_impl.__code__
    return any(call.f_code is code and call.f_locals["self"] is model for call in outwards(sys._getframe()))


def forget_compiled() -> None:
    """Drops compiled code, which would run on without the hooks that came or went: dynamo does not watch them."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
