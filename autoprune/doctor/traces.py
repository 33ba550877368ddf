"""What a patch may leave behind on a model: hooks, attributes, and entries in transformers' table of kernels."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
)


def traces(model: nn.Module) -> dict[str, Any]:
    """Everything that hooks and patches change, by name: two equal results mean that nothing was left."""
    found: dict[str, Any] = {f"attention function {name}": f for name, f in ALL_ATTENTION_FUNCTIONS.items()}
    for path, module in model.named_modules():
        where = path or type(module).__name__
        found[f"attributes of {where}"] = frozenset(vars(module))
        found |= {f"{hooks} of {where}": len(vars(module).get(hooks, ())) for hooks in _HOOKS}
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of what is not as it was."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
