"""The prices of thousands of schedules on one data set, from tables that they share: equal to `Pricer` to the FLOP."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from autoprune.errors import DataError
from autoprune.pricing.architecture import Architecture
from autoprune.pricing.layers import LayerShape
from autoprune.pricing.scoring import matching_macs, selection_macs
from autoprune.pricing.tokens import PromptCounts, check_layers
from autoprune.schedule import Criterion, Reads, Schedule, Stage

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Alive = tuple[int, ...]
"""Visual tokens alive in each distinct prompt."""


@dataclass(frozen=True)
class DataPrice:
    """The price of a schedule over a data set: sums over its prompts.

    Attributes:
        flops: Decoder layers over the whole prompts, plus scoring.
        kv_bytes: Cache once the answers are generated.
    """

    flops: int
    kv_bytes: int


@dataclass(frozen=True)
class _Step:
    """What a stage does to prompts in a given state."""

    after: Alive
    scoring: int
    asks_raters: bool


class PriceLookup:
    """Prices of schedules on one data set of one model.

    A decoder layer costs the same in all schedules that leave it the same tokens, and so does a stage that finds and
    leaves the same: both are computed once and looked up from then on.

    Args:
        config: The model's config, or the `Architecture` made from it once.
        counts: Token counts of each row.
        dtype_bytes: Bytes of one number in the KV cache.

    Raises:
        ModelError: the structure of the model is not known.
        DataError: there is no row.
    """

    def __init__(
        self, config: PreTrainedConfig | Architecture, counts: Sequence[PromptCounts], dtype_bytes: int
    ) -> None:
        if not counts:
            raise DataError("there is no row to price", field="counts", value=0)
        self._architecture = config if isinstance(config, Architecture) else Architecture.from_config(config)
        self._prompts = tuple(Counter(counts).items())
        self._dtype_bytes = dtype_bytes
        self._rows = len(counts)
        self._sums: dict[Alive, tuple[list[int], list[int]]] = {}
        self._means: dict[Alive, float] = {}
        self._steps: dict[tuple[Alive, Stage], _Step] = {}
        self._scoring: dict[tuple[object, ...], int] = {}
        self._all = tuple(prompt.visual for prompt, _ in self._prompts)
        self.dense = self.price(Schedule())

    @property
    def num_layers(self) -> int:
        """Decoder layers."""
        return len(self._architecture.layers)

    @property
    def visual_tokens(self) -> float:
        """Mean number of visual tokens of a row."""
        return self._mean(self._all)

    def price(self, schedule: Schedule) -> DataPrice:
        """The price of one schedule over all rows.

        Raises:
            ModelError: the schedule is deeper than the model.
            ScheduleError: how many tokens it keeps depends on the input, or a criterion has no price.
        """
        check_layers(schedule, self.num_layers)
        macs = kv = 0
        alive, begin, raters = self._all, 0, False
        for stage in schedule.stages:
            layers, cache = self._layers(alive)
            macs += layers[stage.layer] - layers[begin]
            kv += cache[stage.layer] - cache[begin]
            step = self._step(alive, stage)
            macs += step.scoring
            raters |= step.asks_raters
            alive, begin = step.after, stage.layer
        layers, cache = self._layers(alive)
        macs += layers[-1] - layers[begin]
        kv += cache[-1] - cache[begin]
        if raters:
            macs += self._matching(schedule)
        return DataPrice(2 * macs, kv * self._dtype_bytes)

    def flops_ratios(self, schedules: Sequence[Schedule]) -> NDArray[np.float64]:
        """FloatArray[schedules]: prefill FLOPs over dense, as `flops_ratio` of all rows."""
        return np.array([self.price(schedule).flops / self.dense.flops for schedule in schedules], dtype=float)

    def kv_ratios(self, schedules: Sequence[Schedule]) -> NDArray[np.float64]:
        """FloatArray[schedules]: KV bytes over dense."""
        return np.array([self.price(schedule).kv_bytes / self.dense.kv_bytes for schedule in schedules], dtype=float)

    def alive(self, schedule: Schedule) -> list[float]:
        """Visual tokens alive before the first stage and after each stage, mean over the rows."""
        states = [self._all]
        for stage in schedule.stages:
            states.append(self._step(states[-1], stage).after)
        return [self._mean(state) for state in states]

    def _mean(self, alive: Alive) -> float:
        if alive not in self._means:
            total = sum(n * times for n, (_, times) in zip(alive, self._prompts, strict=True))
            self._means[alive] = total / self._rows
        return self._means[alive]

    def _layers(self, alive: Alive) -> tuple[list[int], list[int]]:
        """Multiply-adds and cached numbers of the first 0, 1, … layers, all rows running on these tokens."""
        if alive not in self._sums:
            by_shape: dict[LayerShape, tuple[int, int]] = {}
            for shape in set(self._architecture.layers):
                macs = kv = 0
                for n_visual, (prompt, times) in zip(alive, self._prompts, strict=True):
                    n = prompt.text + n_visual
                    words = prompt.text - prompt.text_as_visual
                    each = n * shape.projection_macs + shape.feed_forward_macs(n, words) + shape.mixing_macs(n)
                    macs += times * each
                    kv += times * shape.cached(n + max(prompt.new - 1, 0)) * shape.kv_width
                by_shape[shape] = macs, kv
            layers = [by_shape[shape] for shape in self._architecture.layers]
            self._sums[alive] = (
                list(accumulate((macs for macs, _ in layers), initial=0)),
                list(accumulate((kv for _, kv in layers), initial=0)),
            )
        return self._sums[alive]

    def _step(self, before: Alive, stage: Stage) -> _Step:
        key = before, stage
        if key not in self._steps:
            after = tuple(
                stage.keep.target(prompt.visual, alive)
                for alive, (prompt, _) in zip(before, self._prompts, strict=True)
            )
            asks = bool(stage.selects and stage.criterion and stage.criterion.asks_raters)
            self._steps[key] = _Step(after, self._selection(stage, before, after), asks)
        return self._steps[key]

    def _selection(self, stage: Stage, before: Alive, after: Alive) -> int:
        criterion = stage.criterion
        if not stage.selects or criterion is None:
            return 0
        key = (*self._shapes(stage, criterion), criterion, stage.merge, before, after)
        if key not in self._scoring:
            self._scoring[key] = sum(
                times
                * selection_macs(self._architecture, stage, visual, kept, prompt.text, prompt.text - prompt.text_before)
                for visual, kept, (prompt, times) in zip(before, after, self._prompts, strict=True)
            )
        return self._scoring[key]

    def _shapes(self, stage: Stage, criterion: Criterion) -> tuple[LayerShape, LayerShape]:
        layers = self._architecture.layers
        return layers[stage.layer - (criterion.reads is Reads.LAYER_BEFORE)], layers[stage.layer]

    def _matching(self, schedule: Schedule) -> int:
        return sum(
            times * matching_macs(self._architecture, schedule, prompt.visual, prompt.text - prompt.text_before)
            for prompt, times in self._prompts
        )
