"""What the patch itself takes on the host, on layers so small that little else is left: CPU time of one thread.

python studies/runtime_speed/hooks.py

Models with the same weights take turns; figures are medians of differences between two of them in one round. `empty
hooks` is a stock model whose layers carry hooks that do nothing: what torch itself takes to call any.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from transformers import LlamaConfig

from autoprune import apply, presets
from autoprune.bench.variants import shortened
from autoprune.evaluate.timing import take_turns
from autoprune.models.random_init import random_model

LAYERS, VISUAL, TEXT, ROUNDS = 28, 64, 16, 200
SHAPE = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
PRESETS = ("vtw", "fastv", "himap")


def model(attention: str) -> Any:
    config = LlamaConfig(**SHAPE, num_hidden_layers=LAYERS, vocab_size=50)
    made = random_model(config)
    made.set_attn_implementation(attention)
    return made


def microseconds(run: Callable[[], Any]) -> float:
    started = time.process_time()
    run()
    return 1e6 * (time.process_time() - started)


def differences(runs: dict[str, Callable[[], Any]], base: str, rounds: int) -> dict[str, float]:
    """Microseconds that each run takes longer than the base."""
    times = take_turns({name: partial(microseconds, run) for name, run in runs.items()}, rounds)
    extra = {name: [t - b for t, b in zip(taken, times[base], strict=True)] for name, taken in times.items()}
    return {base: statistics.median(times[base]), **{n: statistics.median(e) for n, e in extra.items() if n != base}}


def decode(attention: str) -> None:
    prompt, token = torch.randn(1, VISUAL + TEXT, 32), torch.randn(1, 1, 32)
    mask = torch.arange(VISUAL + TEXT)[None] < VISUAL
    arms = {name: model(attention) for name in ("dense", "dense again", "empty hooks", *PRESETS)}
    for layer in arms["empty hooks"].model.layers:
        layer.register_forward_pre_hook(lambda *_: None, with_kwargs=True)
        layer.register_forward_hook(lambda *_: None, with_kwargs=True)
    patches = [apply(arms[name], presets.for_depth(name, LAYERS), mask) for name in PRESETS]
    caches = {name: arm.model(inputs_embeds=prompt, use_cache=True).past_key_values for name, arm in arms.items()}

    runs = {n: partial(arm.model, inputs_embeds=token, past_key_values=caches[n]) for n, arm in arms.items()}
    taken = differences(runs, "dense", ROUNDS)
    print(f"decode step, {attention}, us per layer: dense {taken.pop('dense') / LAYERS:.1f}", end="")
    print("".join(f", {name} {extra / LAYERS:+.1f}" for name, extra in taken.items()))
    for patch in patches:
        patch.remove()


def prefill(batch: int) -> None:
    prompt = torch.randn(batch, VISUAL + TEXT, 32)
    mask = (torch.arange(VISUAL + TEXT)[None] < VISUAL).expand(batch, -1)
    for name in PRESETS:
        pruned, stock = model("sdpa"), model("sdpa")
        with ExitStack() as stack:
            patch = stack.enter_context(apply(pruned, presets.for_depth(name, LAYERS), mask))
            pruned.model(inputs_embeds=prompt)
            stack.enter_context(shortened(stock.model, patch.report.tokens[:, 0].tolist()))
            runs = {
                "floor": partial(stock.model, inputs_embeds=prompt),
                name: partial(pruned.model, inputs_embeds=prompt),
            }
            taken = differences(runs, "floor", ROUNDS // 4)
        print(
            f"prefill, batch {batch}, ms: least possible {taken['floor'] / 1000:.2f}, {name} {taken[name] / 1000:+.2f}"
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        for kernel in ("sdpa", "eager"):
            decode(kernel)
        for size in (1, 2):
            prefill(size)
