"""Ablation of HiMAP's criteria: its two stages over a grid, beside other attention rows, random and even choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoprune import presets
from autoprune.data.samples import SampleSet
from autoprune.errors import DataError
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.results import SampleResult, summarise
from autoprune.evaluate.statistics import Estimate, check_groups, clustered_means
from autoprune.models.loading import LoadedModel
from autoprune.schedule import Criterion, RandomCriterion, Schedule, parse_criterion

ARMS: dict[str, tuple[tuple[str, str], ...]] = {
    "himap": (("text", "visual"),),
    "swapped": (("visual", "text"),),
    "text": (("text", "text"),),
    "visual": (("visual", "visual"),),
    "last": (("last", "last"),),
    "random": (("random", "random"),) * 3,
    "uniform": (("uniform", "uniform"),),
}
"""Criteria of the two stages by short name; an arm with several entries is run that often, each with another seed."""
FACTORS = ("k1", "k2", "keep1", "keep2")


@dataclass(frozen=True)
class Cell:
    """One setting of the grid: layers of the two stages, and shares of the visual tokens that they leave."""

    k1: int
    k2: int
    keep1: float
    keep2: float


@dataclass(frozen=True)
class Row:
    """One arm in one cell.

    Attributes:
        cell: The setting.
        arm: The arm.
        flops_ratio: Prefill FLOPs over dense.
        accuracy: Share of right answers.
        drop: Dense minus this arm.
        behind: HiMAP in this cell minus this arm.
    """

    cell: Cell
    arm: str
    flops_ratio: float
    accuracy: Estimate[float]
    drop: Estimate[float]
    behind: Estimate[float]


@dataclass(frozen=True)
class Ablation:
    """Figures of a grid: every arm in every cell, and means over cells.

    Attributes:
        data: Name of the rows.
        data_digest: Their digest.
        samples: Number of rows.
        dense: The dense model's accuracy.
        rows: Every arm in every cell.
        arms: Accuracy of each arm, mean over the cells.
        behind: HiMAP minus each arm, mean over the cells.
        behind_at: The same over the cells of each first layer, on which it may depend.
        factors: For each factor and each of its values, HiMAP's accuracy, mean over the cells that have it.
        tasks: For each task, HiMAP minus each arm, mean over the cells and over its samples; empty without tasks.
        by_generating: Why settings were scored by ``generate()``, and what that costs; None = teacher-forced.
    """

    data: str
    data_digest: str
    samples: int
    dense: Estimate[float]
    rows: list[Row]
    arms: dict[str, Estimate[float]]
    behind: dict[str, Estimate[float]]
    behind_at: dict[int, dict[str, Estimate[float]]]
    factors: dict[str, dict[float, Estimate[float]]]
    tasks: dict[str, dict[str, float]]
    by_generating: str | None = None


def grid(
    num_layers: int, k1: Sequence[int], k2: Sequence[int], keep1: Sequence[float], keep2: Sequence[float]
) -> list[Cell]:
    """All settings that are schedules: the second stage is deeper and keeps no more; empty factors take defaults.

    The defaults are HiMAP's published layers 2 and 8 and one further choice for each, mapped to the depth, and shares
    around the published ones.

    Raises:
        DataError: a value is out of range, or no setting is left.
    """

    def mapped(layers: Sequence[int]) -> list[int]:
        scaled = (round(k * num_layers / presets.PUBLISHED_DEPTH) for k in layers)
        return list(dict.fromkeys(min(max(1, k), num_layers - 1) for k in scaled))

    first, second = list(k1) or mapped((2, 5)), list(k2) or mapped((8, 16))
    for name, layers in (("k1", first), ("k2", second)):
        for layer in layers:
            if not 1 <= layer < num_layers:
                raise DataError(f"must be in 1 to {num_layers - 1}", field=name, value=layer)
    shares = {"keep1": list(keep1) or [0.5, 0.25], "keep2": list(keep2) or [0.125, 0.05]}
    for name, values in shares.items():
        for share in values:
            if not 0 < share < 1:
                raise DataError("must lie between 0 and 1", field=name, value=share)
    settings = product(first, second, shares["keep1"], shares["keep2"])
    cells = [Cell(a, b, more, less) for a, b, more, less in settings if a < b and less <= more]
    if not cells:
        raise DataError("no setting has k1 < k2 and keep2 <= keep1", field="k1, k2", value=(first, second))
    return cells


def ablate(
    loaded: LoadedModel,
    data: SampleSet,
    cells: Sequence[Cell],
    *,
    batch_size: int = 16,
    max_new_tokens: int = 32,
    on_cell: Callable[[int, int], None] = lambda done, total: None,
) -> Ablation:
    """Run every arm in every cell on the same rows.

    Args:
        loaded: The model.
        data: The rows.
        cells: From `grid`.
        batch_size: Rows of a batch.
        max_new_tokens: Longest answer.
        on_cell: Called with (cells done, cells).

    Raises:
        DataError: fewer than two groups of rows, so that there is no interval.
    """
    groups = [sample.group for sample in data]
    check_groups(groups)
    voters = [parse_criterion(rows) for rows in ("text", "visual", "last")]
    evaluator = Evaluator(loaded, data, batch_size=batch_size, max_new_tokens=max_new_tokens, criteria=voters)
    on_cell(0, len(cells))
    dense = _verdicts(evaluator.dense())
    verdicts, ratios = [], []
    for done, cell in enumerate(cells, start=1):
        runs = [[_schedule(cell, pair, seed) for seed, pair in enumerate(pairs)] for pairs in ARMS.values()]
        results = iter(evaluator.evaluate_many([schedule for arm in runs for schedule in arm]))
        of_arms = [[next(results) for _ in arm] for arm in runs]
        verdicts.append([np.mean([_verdicts(found) for found in arm], axis=0) for arm in of_arms])
        ratios.append([float(np.mean([summarise(found).flops_ratio for found in arm])) for arm in of_arms])
        on_cell(done, len(cells))
    found = _ablation(data, groups, cells, dense, np.moveaxis(np.array(verdicts), 2, 0), ratios)
    return replace(found, by_generating=evaluator.by_generating)


def _verdicts(results: Sequence[SampleResult]) -> NDArray[np.float64]:
    return np.array([result.correct for result in results], dtype=float)


def _schedule(cell: Cell, pair: tuple[str, str], seed: int) -> Schedule:
    def criterion(name: str) -> Criterion:
        return RandomCriterion(seed=seed) if name == "random" else parse_criterion(name)

    stages = zip((cell.k1, cell.k2), (cell.keep1, cell.keep2), pair, strict=True)
    return Schedule.model_validate(
        {"stages": [{"layer": k, "keep": {"ratio": r}, "criterion": criterion(name)} for k, r, name in stages]}
    )


def _ablation(
    data: SampleSet,
    groups: Sequence[str],
    cells: Sequence[Cell],
    dense: NDArray[np.float64],
    verdicts: NDArray[np.float64],
    ratios: list[list[float]],
) -> Ablation:
    """From verdicts [samples, cells, arms]."""

    def means(values: NDArray[np.float64]) -> Any:
        found = clustered_means(values, groups)
        return np.stack([found.mean, found.low, found.high], axis=-1)

    behind = verdicts[:, :, :1] - verdicts
    accuracy, drop, lead = means(verdicts), means(dense[:, None, None] - verdicts), means(behind)
    rows = [
        Row(cell, arm, ratios[c][a], Estimate(*accuracy[c, a]), Estimate(*drop[c, a]), Estimate(*lead[c, a]))
        for c, cell in enumerate(cells)
        for a, arm in enumerate(ARMS)
    ]
    behind_at = {}
    for layer in dict.fromkeys(cell.k1 for cell in cells):
        having = [c for c, cell in enumerate(cells) if cell.k1 == layer]
        of_layer = means(behind[:, having].mean(1))
        behind_at[layer] = {arm: Estimate[float](*e) for arm, e in zip(ARMS, of_layer, strict=True)}
    factors: dict[str, dict[float, Estimate[float]]] = {}
    for factor in FACTORS:
        for value in dict.fromkeys(getattr(cell, factor) for cell in cells):
            having = [c for c, cell in enumerate(cells) if getattr(cell, factor) == value]
            factors.setdefault(factor, {})[value] = Estimate(*means(verdicts[:, having, 0].mean(1)))
    tasks = np.array([sample.task or "" for sample in data])
    over_cells = behind.mean(1)
    return Ablation(
        data=data.name,
        data_digest=data.digest,
        samples=len(data),
        dense=Estimate(*means(dense)),
        rows=rows,
        arms={arm: Estimate[float](*e) for arm, e in zip(ARMS, means(verdicts.mean(1)), strict=True)},
        behind={arm: Estimate[float](*e) for arm, e in zip(ARMS, means(over_cells), strict=True)},
        behind_at=behind_at,
        factors=factors,
        tasks={
            task: dict(zip(ARMS, over_cells[tasks == task].mean(0).tolist(), strict=True))
            for task in sorted(set(tasks.tolist()) - {""})
        },
    )
