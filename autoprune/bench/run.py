"""The benchmark: every schedule beside the dense model and beside variants of itself."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from autoprune.bench.plan import BenchPlan, priced
from autoprune.bench.results import Arm, Benchmark, Overhead, PrunedTimes, Setting
from autoprune.bench.variants import evenly_chosen, keeping_all, shortened
from autoprune.bench.workload import Memory, RunTimes, Workload, kv_bytes, measure_memory
from autoprune.evaluate.timing import Spread, take_turns
from autoprune.models.environment import hardware, versions
from autoprune.pricing.architecture import Architecture
from autoprune.pricing.cost import CONVENTION, Cost, cost, flops_ratio
from autoprune.runtime import apply
from autoprune.schedule import Schedule

DENSE = "dense"


def benchmark(model: Any, plan: BenchPlan, on_step: Callable[[str], None] = lambda step: None) -> Benchmark:
    """Time dense and pruned runs of a model side by side.

    Args:
        model: A stock model; a patch that it has is removed, and it is left without one.
        plan: What to time.
        on_step: Called with a description of what is about to run.

    Raises:
        DataError, ModelError, ScheduleError: as `BenchPlan.check`.
        PatchError: a schedule cannot run on this model.
    """
    plan.check(model.config)
    apply(model, Schedule()).remove()  # replaces a patch left on the model, which would pass for dense
    architecture, unpriced = priced(model.config)
    machine, settings = _machine(model), []
    for batch_size in plan.batch_sizes:
        for visual_tokens in plan.visual_tokens:
            load = Workload(model, batch_size, visual_tokens, plan.text_tokens, plan.new_tokens)
            where = f"batch {batch_size}, {visual_tokens} visual tokens"
            settings.append(_setting(model, plan, architecture, load, partial(_say, on_step, where)))
    return Benchmark(settings, machine, unpriced, CONVENTION)


def _say(on_step: Callable[[str], None], where: str, step: str) -> None:
    on_step(f"{where}, {step}")


def _machine(model: Any) -> dict[str, Any]:
    return {
        **hardware(next(model.parameters()).device),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": versions(),
    }


@dataclass(frozen=True)
class _Way:
    """One way to run the model.

    Attributes:
        patched: Puts the model into that state.
        decodes: Whether decode steps are timed as well.
    """

    patched: Callable[[], AbstractContextManager[Any]]
    decodes: bool

    def times(self, load: Workload) -> RunTimes:
        with self.patched():
            return load.run(decode=self.decodes)[0]

    def memory(self, load: Workload) -> Memory:
        with self.patched():
            return measure_memory(load.device, load.prefill)


@dataclass(frozen=True)
class _Counts:
    """Counts of one run, the same in every round.

    Attributes:
        kv_bytes: In the cache after the last step.
        tokens: For each layer, tokens of the longest sample.
        visual: For each layer, visual tokens of each sample.
    """

    kv_bytes: int
    tokens: list[int]
    visual: list[list[int]]


@dataclass(frozen=True)
class _Figures:
    """Measured figures, by the name of the arm."""

    times: Mapping[str, Sequence[RunTimes]]
    memory: Mapping[str, Memory]

    def decoder(self, name: str) -> list[float]:
        return [t.decoder_ms for t in self.times[name]]

    def decode(self, name: str) -> list[float]:
        return [t.decode_ms for t in self.times[name] if t.decode_ms is not None]

    def ratios(self, name: str) -> list[float]:
        """Decoder time over that of the dense run, round by round."""
        return [own / dense for own, dense in zip(self.decoder(name), self.decoder(DENSE), strict=True)]

    def arm(self, name: str, held: int, prices: Sequence[Cost]) -> Arm:
        decode = self.decode(name)
        return Arm(
            prefill_ms=Spread.of([t.prefill_ms for t in self.times[name]]),
            decoder_ms=Spread.of(self.decoder(name)),
            decode_ms=Spread.of(decode) if decode else None,
            memory=self.memory[name],
            kv_bytes=held,
            kv_bytes_plan=sum(price.kv_bytes for price in prices) if prices else None,
        )

    def overheads(self, name: str) -> dict[str, Overhead | None]:
        dense, floor, even = self.decoder(DENSE), f"{name}, floor", f"{name}, evenly"
        scores = even in self.times
        steps = self.decode(name), self.decode(floor), self.decode(DENSE)
        return {
            "scorer": Overhead.of(self.decoder(name), self.decoder(even), dense) if scores else None,
            "gather": Overhead.of(self.decoder(even if scores else name), self.decoder(floor), dense),
            "keep_all": Overhead.of(self.decoder(f"{name}, all kept"), dense, dense),
            "decode": Overhead.of(*steps) if steps[0] else None,
        }


def _setting(
    model: Any, plan: BenchPlan, architecture: Architecture | None, load: Workload, on_step: Callable[[str], None]
) -> Setting:
    """Time one batch size and number of visual tokens."""
    on_step("first runs")
    held = kv_bytes(load.run()[1])
    counts = {name: _counts(model, schedule, load) for name, schedule in plan.schedules.items()}
    ways = {DENSE: _Way(nullcontext, decodes=True)}
    for name, schedule in plan.schedules.items():
        ways |= _ways(model, name, schedule, counts[name], load)
    times = take_turns(
        {name: partial(way.times, load) for name, way in ways.items()}, plan.repeats, plan.warmup, on_step
    )
    on_step("memory")
    gc.collect()  # once: it takes a quarter of a second, and no call leaves garbage that holds tensors
    figures = _Figures(times, {name: ways[name].memory(load) for name in (DENSE, *plan.schedules)})
    price = partial(_prices, architecture, plan, load, model.dtype.itemsize)
    return Setting(
        batch_size=load.batch_size,
        visual_tokens=load.visual_tokens,
        text_tokens=plan.text_tokens,
        new_tokens=plan.new_tokens,
        dense=figures.arm(DENSE, held, price(Schedule(), [[]] * load.batch_size)),
        pruned=[
            _pruned(name, schedule, counts[name], held, figures, price) for name, schedule in plan.schedules.items()
        ],
    )


def _counts(model: Any, schedule: Schedule, load: Workload) -> _Counts:
    with apply(model, schedule, load.visual_mask) as patch:
        held = kv_bytes(load.run()[1])
        return _Counts(held, patch.report.tokens.amax(1).tolist(), patch.report.visual_tokens.tolist())


def _ways(model: Any, name: str, schedule: Schedule, counts: _Counts, load: Workload) -> dict[str, _Way]:
    """The schedule, and the arms that explain its time."""

    def patched(variant: Schedule) -> Callable[[], AbstractContextManager[Any]]:
        return partial(apply, model, variant, load.visual_mask)

    ways = {
        name: _Way(patched(schedule), decodes=True),
        f"{name}, floor": _Way(partial(shortened, load.decoder, counts.tokens), decodes=True),
        f"{name}, all kept": _Way(patched(keeping_all(schedule, load.visual_tokens)), decodes=False),
    }
    if any(stage.selects for stage in schedule.stages):
        even = evenly_chosen(schedule, [max(counts.visual[stage.layer]) for stage in schedule.stages])
        ways[f"{name}, evenly"] = _Way(patched(even), decodes=False)
    return ways


def _prices(
    architecture: Architecture | None,
    plan: BenchPlan,
    load: Workload,
    dtype_bytes: int,
    schedule: Schedule,
    kept: Sequence[Sequence[int]],
) -> list[Cost]:
    """Cost of each sample from what its stages kept; empty where it is not known."""
    if architecture is None:
        return []
    counts = load.visual_tokens, plan.text_tokens, plan.new_tokens
    return [cost(architecture, schedule, *counts, kept=left, dtype_bytes=dtype_bytes) for left in kept]


def _pruned(
    name: str,
    schedule: Schedule,
    counts: _Counts,
    held_dense: int,
    figures: _Figures,
    price: Callable[[Schedule, Sequence[Sequence[int]]], list[Cost]],
) -> PrunedTimes:
    left = [counts.visual[stage.layer] for stage in schedule.stages]
    samples = len(counts.visual[0])
    prices = price(schedule, [[row[b] for row in left] for b in range(samples)])
    flops = flops_ratio(prices) if prices else None
    ratios, floor = figures.ratios(name), figures.ratios(f"{name}, floor")

    def saved(ratios: Sequence[float]) -> Spread | None:
        return Spread.of([(1 - r) / (1 - flops) for r in ratios]) if flops is not None and flops < 1 else None

    return PrunedTimes(
        name=name,
        stages=schedule.to_json_dict()["stages"],
        visual_tokens=[max(row) for row in counts.visual],
        arm=figures.arm(name, counts.kv_bytes, prices),
        flops_ratio=flops,
        kv_ratio=counts.kv_bytes / held_dense,
        time_ratio=Spread.of(ratios),
        saved_ratio=saved(ratios),
        floor_ratio=Spread.of(floor),
        floor_saved_ratio=saved(floor),
        overheads=figures.overheads(name),
    )
