"""The benchmark: every schedule beside the dense model and beside variants of itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch

from autoprune.bench.floor import shortened
from autoprune.bench.memory import Memory, measure_memory
from autoprune.bench.plan import Plan, priced
from autoprune.bench.results import Arm, Benchmark, Overhead, Pruned, Setting
from autoprune.bench.rounds import Runner, overhead, ratio, take_turns
from autoprune.bench.variants import evenly_chosen, keeping_all
from autoprune.bench.workload import Times, Workload, kv_bytes
from autoprune.evaluate.timing import Spread
from autoprune.models.environment import cores, processor, versions
from autoprune.pricing.architecture import Architecture
from autoprune.pricing.cost import CONVENTION, Cost, cost
from autoprune.runtime import apply
from autoprune.schedule import Schedule

DENSE = "dense"


def benchmark(model: Any, plan: Plan, on_step: Callable[[str], None] = lambda step: None) -> Benchmark:
    """Time dense and pruned runs of a model side by side.

    Args:
        model: A stock model; a patch that it has is removed, and it is left without one.
        plan: What to time.
        on_step: Told what is about to run.

    Raises:
        DataError, ModelError, ScheduleError: as `Plan.check`.
        PatchError: a schedule cannot run on this model.
    """
    plan.check(model.config)
    apply(model, Schedule()).remove()  # replaces a patch left on the model, which would pass for dense
    architecture, unpriced = priced(model.config)
    place, settings = _machine(model), []
    for batch_size in plan.batch_sizes:
        for visual_tokens in plan.visual_tokens:
            where = f"batch {batch_size}, {visual_tokens} visual tokens"
            found = _Measured(model, plan, architecture, batch_size, visual_tokens)
            settings.append(found.setting(partial(_tell, on_step, where)))
    return Benchmark(settings, place, unpriced, CONVENTION)


def _tell(on_step: Callable[[str], None], where: str, step: str) -> None:
    on_step(f"{where}, {step}")


def _machine(model: Any) -> dict[str, Any]:
    device = next(model.parameters()).device
    return {
        "cpu": processor(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": versions(("autoprune", "torch", "transformers")),
    }


class _Measured:
    """One setting, while it is measured."""

    def __init__(
        self, model: Any, plan: Plan, architecture: Architecture | None, batch_size: int, visual_tokens: int
    ) -> None:
        self._model, self._plan, self._architecture = model, plan, architecture
        self._batch, self._visual = batch_size, visual_tokens
        self._load = Workload(model, batch_size, visual_tokens, plan.text_tokens, plan.new_tokens)
        self._runners = {DENSE: Runner(nullcontext, decodes=True)}
        self._bytes: dict[str, int] = {}
        self._alive: dict[str, list[list[int]]] = {}
        self._times: dict[str, list[Times]] = {}
        self._memory: dict[str, Memory] = {}

    def setting(self, on_step: Callable[[str], None]) -> Setting:
        """Run everything."""
        plan, schedules = self._plan, self._plan.schedules
        on_step("first runs")
        self._bytes[DENSE] = kv_bytes(self._load.run()[1])
        for name, schedule in schedules.items():
            self._add(name, schedule)
        self._times = take_turns(self._load, self._runners, plan.warmup, plan.repeats, on_step)
        on_step("memory")
        for name in (DENSE, *schedules):
            with self._runners[name].patched():
                self._memory[name] = measure_memory(self._load.device, self._load.prefill)
        prices = self._prices(Schedule(), [[]] * self._batch)
        return Setting(
            batch_size=self._batch,
            visual_tokens=self._visual,
            text_tokens=plan.text_tokens,
            new_tokens=plan.new_tokens,
            dense=self._arm(DENSE, prices),
            pruned=[self._pruned(name, schedule) for name, schedule in schedules.items()],
        )

    def _add(self, name: str, schedule: Schedule) -> None:
        """See once what the schedule does, and line up the arms that explain its time."""
        mask, load = self._load.visual_mask, self._load

        def patched(s: Schedule) -> Callable[[], Any]:
            return partial(apply, self._model, s, mask)

        with apply(self._model, schedule, mask) as patch:
            self._bytes[name] = kv_bytes(load.run()[1])
            tokens, visual = patch.report.tokens, patch.report.visual_tokens
        self._alive[name] = visual.tolist()
        most = visual.amax(1).tolist()
        self._runners[name] = Runner(patched(schedule), decodes=True)
        self._runners[f"{name}, floor"] = Runner(
            partial(shortened, load.decoder, tokens.amax(1).tolist()), decodes=True
        )
        self._runners[f"{name}, all kept"] = Runner(patched(keeping_all(schedule, self._visual)), decodes=False)
        if any(stage.selects for stage in schedule.stages):
            even = evenly_chosen(schedule, [most[stage.layer] for stage in schedule.stages])
            self._runners[f"{name}, evenly"] = Runner(patched(even), decodes=False)

    def _prices(self, schedule: Schedule, kept: Sequence[Sequence[int]]) -> list[Cost]:
        """What each sample costs; empty if that is not known."""
        if self._architecture is None:
            return []
        plan = self._plan
        return [
            cost(
                self._architecture,
                schedule,
                self._visual,
                plan.text_tokens,
                plan.new_tokens,
                kept=left,
                dtype_bytes=self._model.dtype.itemsize,
            )
            for left in kept
        ]

    def _arm(self, name: str, prices: Sequence[Cost]) -> Arm:
        times = self._times[name]
        decode = [t.decode_ms for t in times if t.decode_ms is not None]
        return Arm(
            prefill_ms=Spread.of([t.prefill_ms for t in times]),
            decoder_ms=Spread.of([t.decoder_ms for t in times]),
            decode_ms=Spread.of(decode) if decode else None,
            memory=self._memory[name],
            kv_bytes=self._bytes[name],
            kv_bytes_plan=sum(price.kv_bytes for price in prices) if prices else None,
        )

    def _pruned(self, name: str, schedule: Schedule) -> Pruned:
        alive = self._alive[name]
        layers = [stage.layer for stage in schedule.stages]
        prices = self._prices(schedule, [[alive[k][b] for k in layers] for b in range(self._batch)])
        flops = sum(p.decoder_flops for p in prices) / sum(p.decoder_flops_dense for p in prices) if prices else None
        dense, times, floor = (self._times[key] for key in (DENSE, name, f"{name}, floor"))

        def saved(ratios: Sequence[float]) -> Spread | None:
            return Spread.of([(1 - r) / (1 - flops) for r in ratios]) if flops is not None and flops < 1 else None

        return Pruned(
            name=name,
            stages=schedule.to_json_dict()["stages"],
            visual_tokens=[max(row) for row in alive],
            arm=self._arm(name, prices),
            flops_ratio=flops,
            kv_ratio=self._bytes[name] / self._bytes[DENSE],
            time_ratio=Spread.of(ratio(times, dense)),
            saved_ratio=saved(ratio(times, dense)),
            floor_ratio=Spread.of(ratio(floor, dense)),
            floor_saved_ratio=saved(ratio(floor, dense)),
            overheads=self._overheads(name),
        )

    def _overheads(self, name: str) -> dict[str, Overhead | None]:
        def decoder(key: str) -> list[float]:
            return [t.decoder_ms for t in self._times[key]]

        def decode(key: str) -> list[float]:
            return [t.decode_ms for t in self._times[key] if t.decode_ms is not None]

        dense, floor = decoder(DENSE), f"{name}, floor"
        even = f"{name}, evenly" if f"{name}, evenly" in self._times else None
        return {
            "scorer": overhead(decoder(name), decoder(even), dense) if even else None,
            "gather": overhead(decoder(even or name), decoder(floor), dense),
            "keep_all": overhead(decoder(f"{name}, all kept"), dense, dense),
            "decode": overhead(decode(name), decode(floor), decode(DENSE)) if decode(name) else None,
        }
