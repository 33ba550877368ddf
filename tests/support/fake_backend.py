"""A backend without a model: cost and quality follow a simple law, so studies run in milliseconds.

What a schedule keeps early makes it dearer and better; text attention is the best criterion in shallow layers, visual
in deep ones. Verdicts are a fixed function of (sample, schedule). Files in the folder of the study steer it, see
`support.steering`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.steering import Steering
from transformers import LlamaConfig

from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.sharing import Sharing
from autoprune.pricing.tokens import PromptCounts
from autoprune.schedule import ModelIdentity, Schedule
from autoprune.search.spec import StudySpec
from autoprune.search.workers.protocol import EngineFacts, Inputs, Split, SplitFacts

LAYERS, VISUAL, TEXT = 8, 100, 20
SIZES = {"calibration": 128, "validation": 96}
TASKS = ("easy", "hard")


def read_inputs(spec: StudySpec) -> Inputs:
    splits = {name: _facts(name) for name in SIZES}
    validation = splits["validation"] if spec.data.validation else None
    return Inputs(_config(), LAYERS, splits["calibration"], validation)


def open_engine(spec: StudySpec) -> FakeEngine:
    folder = Path(spec.output).parent
    Steering(folder).load()
    return FakeEngine(folder)


class FakeEngine:
    def __init__(self, folder: Path) -> None:
        self.sharing, self._steering, self._folder = Sharing(), Steering(folder), folder

    def facts(self) -> EngineFacts:
        prompts = (PromptCounts(VISUAL, TEXT, TEXT // 2, new=2),) * SIZES["calibration"]
        details = {"dtype": "float32", "device": "cpu", "pixels": "pil"}
        details |= {name: (self._folder / name).read_text() for name in details if (self._folder / name).exists()}
        return EngineFacts("fake-model", "1", "made-up FLOPs", details, prompts, number_bytes=4)

    def evaluate(self, split: Split, schedules: Sequence[Schedule], rows: Sequence[int]) -> list[list[SampleResult]]:
        self._steering.work(schedules, f"{split} {','.join(map(str, rows))}")
        self.sharing += Sharing(run=1, by_prefix=2, from_scratch=4)
        return [[sample(split, schedule, row) for row in rows] for schedule in schedules]

    def peak_bytes(self) -> int:
        return 0

    def latency(self, schedules: Sequence[Schedule]) -> list[dict[str, float | int | None]]:
        self._steering.work(schedules, "latency")
        return [
            {"prefill_ms": 10 * cost(s), "prefill_dense_ms": 10.0, "end_to_end_ms": 5 + 10 * cost(s),
             "end_to_end_dense_ms": 15.0, "batch": 16, "prefills": 15, "together": len(schedules),
             "new_tokens": 8} for s in schedules
        ]  # fmt: skip


def sample(split: str, schedule: Schedule, index: int) -> SampleResult:
    """One verdict; the chance of a right answer is `quality`."""
    task = TASKS[index % 2]
    right = _chance(f"{split}:{index}:{schedule.key}") < quality(schedule, task)
    dense = 1_000_000
    flops = int(dense * cost(schedule))
    name = f"row{index}"
    return SampleResult(
        index, name, task, f"image{index // 2}", float(right), float(right), 1.0 - quality(schedule, task), "x",
        True, flops, dense, flops + dense, 2 * dense, flops, dense,
    )  # fmt: skip


def cost(schedule: Schedule) -> float:
    return sum(TEXT + VISUAL * share for share in _alive(schedule)) / (LAYERS * (TEXT + VISUAL))


def quality(schedule: Schedule, task: str) -> float:
    lost = 0.0
    before = 1.0
    for stage in schedule.stages:
        share = stage.keep.ratio or 0.0
        fit = _fit(stage.layer, getattr(stage.criterion, "rows", stage.criterion.name if stage.criterion else None))
        lost += max(0.0, before - share) * (1 - stage.layer / LAYERS) ** 2 * (1 - fit)
        before = min(before, share)
    return max(0.05, 0.97 - lost * (1.5 if task == "hard" else 0.7))


def _fit(layer: int, criterion: str | None) -> float:
    if criterion is None:
        return 0.1
    best = "text" if layer < LAYERS // 2 else "visual"
    return 0.85 if criterion == best else 0.3 if criterion in ("random", "uniform") else 0.6


def _alive(schedule: Schedule) -> list[float]:
    due, share, alive = {s.layer: s.keep.ratio or 0.0 for s in schedule.stages}, 1.0, []
    for layer in range(LAYERS):
        share = min(share, due.get(layer, 1.0))
        alive.append(share)
    return alive


def _chance(seed: str) -> float:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big") / 2**48


def _facts(name: str) -> SplitFacts:
    count = SIZES[name]
    groups, tasks = tuple(f"image{i // 2}" for i in range(count)), tuple(TASKS[i % 2] for i in range(count))
    return SplitFacts(f"{name}.jsonl", f"digest of {name}", groups, tasks)


def _config() -> Any:
    config = LlamaConfig(num_hidden_layers=LAYERS, hidden_size=16, num_attention_heads=2)
    assert ModelIdentity.from_config(config, "fake").num_layers == LAYERS
    return config
