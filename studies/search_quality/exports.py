"""How far exported schedules keep their claims: a front measured on fresh rows, and validation sets redrawn from them.

    python studies/digit_scenes/make.py scenes --split test --count 1600 --seed 7 --output DIR
    python studies/search_quality/exports.py measure RUN --rows DIR/test-seed7.jsonl     writes fresh.json beside it
    python studies/search_quality/exports.py table --draws 500                           the tables of outcome.md

RUN is the output folder of a finished study. What a schedule loses on all fresh rows is taken for the truth. Validation
sets are drawn from them, whole scenes with replacement, and on each the point is chosen again as `autoprune export`
does. A second set, drawn in the same way, stands for the rows of `autoprune verify`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from autoprune.data.samples import SampleSet, load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.losses import Array, GroupedLosses
from autoprune.evaluate.promise import promised
from autoprune.evaluate.results import SampleResult
from autoprune.evaluate.selection import NONE, Choices, Choose, cheapest_within, selected
from autoprune.evaluate.statistics import paired_drop
from autoprune.models.loading import load_model
from autoprune.schedule import Schedule
from autoprune.search.front import FrontFile, Point
from autoprune.search.pareto import non_dominated
from autoprune.search.spec import StudySpec
from autoprune.search.verdicts import RowVerdicts

HERE = Path(__file__).parent
FRESH = HERE / "fresh.json"
BOUNDS = (0.005, 0.01, 0.02, 0.05, 0.10)
CONFIDENCE = 0.95
ROWS = 512
"""Of a validation set, and of a set to verify with."""
_Z = 1.96
_BATCH, _CHUNK = 16, 320
_RESAMPLES = 500
"""A quarter of what `autoprune export` takes, for an average over many draws."""


@dataclass(frozen=True)
class Fresh:
    """Anchors and points of a front, in the order in which they are tested, with their verdicts on fresh rows.

    Attributes:
        anchors: How many of them are anchors, which come first: only a promise may choose one.
        names: Of all of them.
        flops: FLOPs ratios on calibration rows, falling among anchors and among points.
        losses: [rows, points], dense minus pruned.
        scenes: [scenes, rows of a scene], places of the rows of each scene.
    """

    anchors: int
    names: tuple[str, ...]
    flops: Array
    losses: Array
    scenes: NDArray[np.int64]

    @classmethod
    def load(cls, path: Path) -> Self:
        """What `measure` wrote."""
        content = json.loads(path.read_text(encoding="utf-8"))
        points, verdicts = content["points"], RowVerdicts.model_validate(content["verdicts"])
        kept = non_dominated([(p["flops_ratio"], -p["accuracy"]) for p in points])
        anchors, own = content["anchors"], [points[i] for i in kept]
        order = [p for part in (anchors, own) for p in sorted(part, key=lambda p: -p["flops_ratio"])]
        groups = np.array(verdicts.groups)
        scenes = np.array([np.flatnonzero(groups == group) for group in range(groups.max() + 1)])
        keys = [Schedule.model_validate(p["schedule"]).key for p in order]
        return cls(
            anchors=len(anchors),
            names=tuple(p["name"] for p in order),
            flops=np.array([p["flops_ratio"] for p in order]),
            losses=verdicts.losses(keys),
            scenes=scenes,
        )

    @property
    def points(self) -> Self:
        """The points alone."""
        first = self.anchors
        return replace(
            self, anchors=0, names=self.names[first:], flops=self.flops[first:], losses=self.losses[:, first:]
        )

    @property
    def drops(self) -> Array:
        """What each point loses on all fresh rows."""
        mean: Array = self.losses.mean(0)
        return mean

    def draw(self, rng: np.random.Generator, rows: int = ROWS) -> tuple[Array, list[int]]:
        """Losses [rows, points] of scenes drawn with replacement, and the group of each row."""
        per_scene = self.scenes.shape[1]
        drawn = self.scenes[rng.integers(0, len(self.scenes), rows // per_scene)]
        return self.losses[drawn.ravel()], np.repeat(np.arange(len(drawn)), per_scene).tolist()


@dataclass
class Tally:
    """What came of one way to export at one bound, over the draws."""

    flops: list[float] = field(default_factory=list)
    broken: list[bool] = field(default_factory=list)
    said: list[float] = field(default_factory=list)
    raw: list[float] = field(default_factory=list)
    corrected: list[float] = field(default_factory=list)
    verified: list[tuple[bool, bool]] = field(default_factory=list)
    none: int = 0


@dataclass(frozen=True)
class Redraws:
    """Everything that was counted.

    Attributes:
        covered: Share of the draws whose 95 % interval holds the truth, by point.
        estimates: By bound, without confidence.
        promises: By bound, with confidence.
    """

    covered: Array
    estimates: dict[float, Tally]
    promises: dict[float, Tally]


def redraw(fresh: Fresh, draws: int, rows: int = ROWS, bounds: Sequence[float] = BOUNDS, seed: int = 0) -> Redraws:
    """Draws validation sets and exports from each of them."""
    rng, covered, points = np.random.default_rng(seed), np.zeros(len(fresh.flops)), fresh.points
    estimates, promises = ({bound: Tally() for bound in bounds} for _ in range(2))
    for _ in range(draws):
        (losses, groups), (again, others) = fresh.draw(rng, rows), fresh.draw(rng, rows)
        totals, test = GroupedLosses.of(losses, groups), GroupedLosses.of(again, others)
        first = fresh.anchors
        own, own_test = GroupedLosses.of(losses[:, first:], groups), GroupedLosses.of(again[:, first:], others)
        covered += _covers(losses, groups, fresh.drops)
        for bound in bounds:
            _count(points, own, own_test, cheapest_within([(own, bound)], points.flops), bound, estimates[bound])
            _count(fresh, totals, test, _last_promised(totals, bound), bound, promises[bound])
    return Redraws(covered / draws, estimates, promises)


def _covers(losses: Array, groups: list[int], truth: Array) -> NDArray[np.bool_]:
    found = []
    for column, true in zip(losses.T, truth, strict=True):
        drop = paired_drop(np.maximum(column, 0).tolist(), np.maximum(-column, 0).tolist(), groups)
        found.append(drop.low <= true <= drop.high)
    return np.array(found)


def _last_promised(totals: GroupedLosses, bound: float) -> Choose:
    def choose(drawn: Array) -> Choices:
        depth = promised([(totals, bound)], CONFIDENCE, drawn).astype(np.int64)
        return np.where(depth > 0, depth - 1, NONE)

    return choose


def _count(
    fresh: Fresh, totals: GroupedLosses, test: GroupedLosses, choose: Choose, bound: float, tally: Tally
) -> None:
    found = selected(choose, totals, [(totals, bound)], _RESAMPLES)
    if found is None:
        tally.none += 1
        return
    point, truth = found.schedule, float(fresh.drops[found.schedule])
    measured = float(totals.drops()[0, point])
    tally.flops.append(float(fresh.flops[point]))
    tally.broken.append(truth > bound)
    tally.said.append(found.risk or 0.0)
    tally.raw.append(measured - truth)
    tally.corrected.append(measured + found.optimism - truth)
    allowed = _Z * np.hypot(*(part.statistics().error[0, point] for part in (totals, test)))
    apart = float(test.drops()[0, point]) - measured
    tally.verified.append((bool(abs(apart) <= allowed), bool(abs(apart - found.optimism) <= allowed)))


def table(found: Redraws, draws: int) -> str:
    """Markdown: coverage, and for each bound both ways to export."""
    low, mean, high = found.covered.min(), found.covered.mean(), found.covered.max()
    lines = [f"95 % intervals of drops cover {mean:.1%} over {draws} draws ({low:.1%} to {high:.1%} by point).", ""]
    head = (
        "max drop",
        "FLOPs",
        "none found",
        "bound broken",
        "risk said",
        "bias, points",
        "corrected",
        "verify agrees",
    )
    for title, tallies in (("point estimate", found.estimates), (f"{CONFIDENCE:.0%} confidence", found.promises)):
        lines += [f"| {' | '.join((title, *head[1:]))} |", "|---" * len(head) + "|"]
        lines += [f"| {bound:g} | {' | '.join(_cells(tally, draws))} |" for bound, tally in tallies.items()]
        lines.append("")
    return "\n".join(lines)


def _cells(tally: Tally, draws: int) -> list[str]:
    return [
        f"{_mean(tally.flops):.1%}",
        f"{tally.none / draws:.1%}",
        f"{sum(tally.broken) / draws:.3f}",
        f"{_mean(tally.said):.2f}",
        _bias(tally.raw),
        _bias(tally.corrected),
        f"{_mean([agrees for _, agrees in tally.verified]):.1%}",
    ]


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else float("nan")


def _bias(values: Sequence[float]) -> str:
    if not values:
        return "–"
    return f"{100 * fmean(values):+.2f} ± {100 * float(np.std(values)) / len(values) ** 0.5:.2f}"


def fresh_verdicts(model: str, schedules: Sequence[Schedule], data: SampleSet) -> RowVerdicts:
    """Verdicts of schedules on rows, part after part: a recorded pass of all of them would not fit into memory."""
    all_schedules = [Schedule(), *schedules]
    criteria = list(dict.fromkeys(s.criterion for schedule in schedules for s in schedule.stages if s.criterion))
    loaded = load_model(model)
    results: list[list[SampleResult]] = [[] for _ in all_schedules]
    for start in range(0, len(data), _CHUNK):
        part = SampleSet.of(data[start : start + _CHUNK], f"{data.name} from {start}")
        evaluator = Evaluator(loaded, part, batch_size=_BATCH, criteria=criteria)
        for own, found in zip(results, evaluator.evaluate_many(all_schedules), strict=True):
            own += [replace(r, index=start + r.index) for r in found]
        print(f"{start + len(part)} of {len(data)} rows", flush=True)
    by_key = {schedule.key: own for schedule, own in zip(schedules, results[1:], strict=True)}
    verdicts = RowVerdicts.of(results[0], by_key)
    assert verdicts is not None, "answers of digit_scenes are right or wrong"
    return verdicts


def measure(run: Path, rows: Path, output: Path) -> None:
    """Measures the points of a finished study on fresh rows."""
    front, data = FrontFile.load(run), load_samples(rows)
    parts = {"anchors": front.anchors or (), "points": [p for p in front.points if p.schedule.stages]}
    model = StudySpec.load(run / "study.yaml").model.path
    verdicts = fresh_verdicts(model, [p.schedule for part in parts.values() for p in part], data)
    content = {
        "study": front.study.name,
        "rows": {"name": rows.name, "digest": data.digest},
        **{name: [_shown(point) for point in part] for name, part in parts.items()},
        "verdicts": verdicts.model_dump(mode="json"),
    }
    output.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")


def _shown(point: Point) -> dict[str, Any]:
    schedule = {k: v for k, v in point.schedule.to_json_dict().items() if k not in ("model", "evidence")}
    return {
        "name": point.name, "flops_ratio": point.flops_ratio, "accuracy": point.accuracy, "schedule": schedule,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure", help="the points of a finished study on fresh rows")
    measuring.add_argument("run", type=Path)
    measuring.add_argument("--rows", type=Path, required=True)
    measuring.add_argument("--output", type=Path, default=FRESH)
    tabling = commands.add_parser("table", help="exports from redrawn validation sets")
    tabling.add_argument("--fresh", type=Path, default=FRESH)
    tabling.add_argument("--draws", type=int, default=500)
    tabling.add_argument("--rows", type=int, default=ROWS)
    arguments = parser.parse_args()
    if arguments.command == "measure":
        measure(arguments.run, arguments.rows, arguments.output)
    else:
        print(table(redraw(Fresh.load(arguments.fresh), arguments.draws, arguments.rows), arguments.draws))


if __name__ == "__main__":
    main()
