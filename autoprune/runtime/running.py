"""Whether another thread is inside a model: hooks that come or go in the middle of a pass would prune half of it."""

from __future__ import annotations

import sys
import threading
from types import FrameType

from torch import nn

from autoprune.errors import PatchError
from autoprune.runtime.frames import outwards


def check_idle(model: nn.Module) -> None:
    """Refuse to change a model while another thread runs it, or generates with it.

    Seen from the threads themselves, so that a model without a patch costs nothing. A call that begins while hooks are
    put on is not seen: threads that start work on a model must be kept apart from those that change it.

    Raises:
        PatchError: naming the thread.
    """
    modules = {id(module) for module in model.modules()}
    own, names = threading.get_ident(), {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        if ident != own and any(_is_method_of(modules, call) for call in outwards(frame)):
            raise PatchError(
                "another thread is running this model, and would be pruned in half of a call",
                field="model",
                value=names.get(ident, str(ident)),
                remedy="apply and remove patches between calls: join the thread, or let both hold one lock",
            )


def _is_method_of(modules: set[int], call: FrameType) -> bool:
    return call.f_code.co_varnames[:1] == ("self",) and id(call.f_locals.get("self")) in modules
