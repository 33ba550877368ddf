"""Peak memory of a call, as the driver of the GPU or the kernel of the operating system counted it."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_RESET_PEAK = "5"


@dataclass(frozen=True)
class Memory:
    """Peak memory of one call.

    Attributes:
        peak_bytes: The most that was held at once, weights included; None where nothing counts it.
        growth_bytes: That, less what was held before the call.
        how: Who counted.
    """

    peak_bytes: int | None
    growth_bytes: int | None
    how: str


def measure_memory(device: torch.device, call: Callable[[], Any]) -> Memory:
    """Run a call and tell how much memory it took at its worst.

    On CUDA this is what PyTorch's allocator handed out. On a CPU it is the peak of the process's resident memory, which
    Linux keeps and lets us reset; elsewhere nothing exact is at hand, and nothing is claimed.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        return Memory(peak, peak - before, "PyTorch's CUDA allocator")
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _STATUS.exists() else None
    if trim is None or not _reset_peak():
        call()
        return Memory(None, None, "not measured: the operating system keeps no peak that can be reset")
    trim(0)  # freed pages that the allocator kept would hide what the call takes
    _reset_peak()
    before = _resident("VmRSS")
    call()
    peak = _resident("VmHWM")
    return Memory(peak, peak - before, "resident memory of the process, Linux")


def _reset_peak() -> bool:
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _resident(name: str) -> int:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    return 0
