"""Operators and host reads of one prefill under each preset, and of choosing 64 of 576 tokens by diversity.

    python studies/runtime_speed/selection.py

A small random LLaVA, a ragged batch of 16 prompts, on the CPU: what is counted does not depend on the machine. A host
read is an operation whose result Python waits for; on a GPU each one lets the device run dry.
"""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

import autoprune
from autoprune import Schedule, presets

READS = {"item", "tolist", "cpu", "numpy", "nonzero", "masked_select", "equal", "__bool__", "__int__", "__float__"}
INDEXING = {"__getitem__", "__setitem__"}
LAYERS, WIDTH, BATCH, VISUAL = 12, 64, 16, 576


class Reads(TorchFunctionMode):
    """Counts what Python waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        index = args[1] if name in INDEXING else ()
        parts = index if isinstance(index, tuple | list) else (index,)
        masked = any(isinstance(part, torch.Tensor) and part.dtype == torch.bool for part in parts)
        self.count += name in READS or masked
        return func(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    """Counts operators."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[func.name()] += 1
        return func(*args, **(kwargs or {}))


def counted(model: Any, call: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Operators and host reads of one prefill."""
    with torch.no_grad(), Operators() as operators, Reads() as reads:
        model(**call, use_cache=True, logits_to_keep=1)
    return operators.found.total(), reads.count


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=4, vocab_size=99
    )
    model = LlamaForCausalLM(config).eval()
    length = VISUAL + 64
    columns = torch.arange(length)[None]
    padding = torch.arange(BATCH)[:, None] * 2
    visual = (columns >= padding) & (columns < VISUAL)
    call = {"inputs_embeds": torch.randn(BATCH, length, WIDTH), "attention_mask": (columns >= padding).long()}
    dense = counted(model, call)
    print(f"{'schedule':32} {'operators':>10} {'host reads':>11}")
    print(f"{'dense':32} {dense[0]:10d} {dense[1]:11d}")
    keep = {"stages": [{"layer": 0, "keep": {"count": 64}, "criterion": {"name": "diversity"}}]}
    arms = {name: presets.for_depth(name, LAYERS) for name in presets.NAMES if name not in ("dense", "visionzip")}
    for name, schedule in {**arms, "diversity, 64 of 576": Schedule.model_validate(keep)}.items():
        with autoprune.apply(model, schedule, visual):
            operators, reads = counted(model, call)
        print(f"{name:32} {operators - dense[0]:+10d} {reads - dense[1]:+11d}")


if __name__ == "__main__":
    main()
