"""Flags from the device, looked at once they are there, and copies to it: no step waits for either."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from autoprune.runtime.refusals import not_finite


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy of a tensor of the host, for which nothing waits: from pageable memory the copy would follow all work."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass
class FiniteScores:
    """Whether the scores of each step were finite; the flags of a step are looked at once the device has run it.

    Attributes:
        of: What was scored, for errors: requests, or images.
    """

    of: str = "requests"
    _pending: deque[tuple[Tensor, Any, tuple[str, ...]]] = field(default_factory=deque)

    def expect(self, broken: Tensor, names: Sequence[str]) -> None:
        """Note the flags of a step.

        Args:
            broken: BoolTensor[P], whether what each was pruned by is not finite.
            names: Their names.
        """
        event = torch.cuda.Event() if broken.is_cuda else None
        flags = broken.to("cpu", non_blocking=True)
        if event is not None:
            event.record()
        self._pending.append((flags, event, tuple(names)))

    def check(self) -> None:
        """Look at the flags of steps that the device has run.

        Raises:
            PatchError: scores, or the states behind them, were not finite; naming them.
        """
        while self._pending and (self._pending[0][1] is None or self._pending[0][1].query()):
            flags, _, names = self._pending.popleft()
            wrong = [name for name, is_broken in zip(names, flags.tolist(), strict=True) if is_broken]
            if wrong:
                raise not_finite(f"states of visual tokens, or their scores, of the {self.of} {', '.join(wrong)}")
