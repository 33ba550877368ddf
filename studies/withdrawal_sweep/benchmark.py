"""What the withdrawal sweep costs, against one dense pass and against one patched run per layer, in CPU time.

python studies/withdrawal_sweep/benchmark.py                 all cases, some minutes on one idle core
python studies/withdrawal_sweep/benchmark.py --cases 0 1     some of them
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from autoprune import apply, presets
from autoprune.analysis import withdrawal_kl
from autoprune.evaluate.timing import take_turns

WIDTH = 384
BEFORE = 35  # text tokens before the image, as in LLaVA-1.5's prompt


@dataclass(frozen=True)
class Case:
    layers: int
    visual: int
    after: int
    rounds: int

    @property
    def tokens(self) -> int:
        return BEFORE + self.visual + self.after

    @property
    def bound(self) -> float:
        """Dense passes that the sweep may cost."""
        return 1.15 * (1 + (self.layers + 1) / 2 * self.after / self.tokens)

    @property
    def text_share(self) -> float:
        return (BEFORE + self.after) / self.tokens


CASES = (
    Case(layers=12, visual=576, after=20, rounds=5),
    Case(layers=32, visual=576, after=20, rounds=3),
    Case(layers=32, visual=2880, after=20, rounds=1),
    Case(layers=12, visual=576, after=64, rounds=5),
    Case(layers=32, visual=576, after=64, rounds=1),
)


def build(layers: int) -> LlamaForCausalLM:
    """Narrow, but attention takes about the share of a layer that it takes in a 7B model: scores and values are 3 % of
    the multiply-adds at 631 tokens and 13 % at 2,935 (LLaVA-1.5-7B: 2.5 % and 11 %).
    """
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=1056,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        num_hidden_layers=layers,
        vocab_size=1000,
        max_position_embeddings=4096,
        initializer_range=0.08,  # so that withdrawal is felt, and figures that are equal are not all zero
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def measure(case: Case) -> str:
    model = build(case.layers)
    embeds = torch.randn(1, case.tokens, WIDTH, generator=torch.Generator().manual_seed(1))
    visual = torch.zeros(1, case.tokens, dtype=torch.bool)
    visual[:, BEFORE : BEFORE + case.visual] = True

    def dense() -> torch.Tensor:
        with torch.no_grad():
            return model(inputs_embeds=embeds, use_cache=False, logits_to_keep=1).logits[0, -1].log_softmax(-1)

    def sweep() -> torch.Tensor:
        return withdrawal_kl(model, [{"inputs_embeds": embeds, "visual_mask": visual}])[0]

    def patched() -> torch.Tensor:
        reference, rows = dense(), []
        for k in range(case.layers):
            with apply(model, presets.vtw(k), visual):
                withdrawn = dense()
            rows.append((withdrawn.exp() * (withdrawn - reference)).sum())
        return torch.stack(rows)

    dense()
    calls = {"dense": dense, "sweep": sweep, "patched": patched, "dense again": dense}
    turns = take_turns({name: partial(seconds, call) for name, call in calls.items()}, case.rounds)
    in_passes, faster, apart = [], [], 0.0
    for (dense_s, _), (sweep_s, ours), (patched_s, theirs), (again_s, _) in zip(*turns.values(), strict=True):
        in_passes.append(2 * sweep_s / (dense_s + again_s))
        faster.append(patched_s / sweep_s)
        apart = max(apart, float((ours - theirs).abs().max() / theirs.abs().max()))
    return (
        f"| {case.layers} | {case.visual} | {case.after} | {statistics.median(in_passes):.2f} | {case.bound:.2f} "
        f"| {statistics.median(faster):.1f} | {min(faster):.1f} to {max(faster):.1f} | {case.rounds} | {apart:.0e} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, nargs="*", default=list(range(len(CASES))))
    torch.set_num_threads(1)
    print("| layers | visual | text after | dense passes | bound | times as fast | range | rounds | apart |")
    print("|---|---|---|---|---|---|---|---|---|")
    for number in parser.parse_args().cases:
        print(measure(CASES[number]), flush=True)


if __name__ == "__main__":
    main()
