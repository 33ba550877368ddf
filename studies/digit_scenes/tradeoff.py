"""What pruning does to the digit_scenes model, layer by layer: the tables of outcome.md.

    python studies/digit_scenes/tradeoff.py                 withdrawal by task, and criteria by depth, on test.jsonl

Every figure is exact-match accuracy on the same rows; where two columns are compared, their difference has its standard
error.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from autoprune import Schedule, presets
from autoprune.data.samples import load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.results import SampleResult, compare, summarise
from autoprune.models.loading import load_model
from autoprune.schedule import parse_criterion

HERE = Path(__file__).parent
ROWS = ("last", "text", "visual")
SEEDS = (0, 1, 2)
Measure = Callable[[Sequence[Schedule]], list[list[SampleResult]]]
"""Gives the results of schedules on the same rows, such as `Evaluator.evaluate_many`."""


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(header)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def withdrawal(measure: Measure, depth: int) -> str:
    """Accuracy per task after withdrawing all visual tokens before each layer."""
    names = ["dense", *map(str, range(depth))]
    measured = measure([presets.dense(), *(presets.vtw(k) for k in range(depth))])
    tasks = sorted(summarise(measured[0]).tasks)
    lines = []
    for name, results in zip(names, measured, strict=True):
        summary = summarise(results)
        cells = [percent(summary.tasks[t].accuracy) for t in tasks]
        lines.append([name, percent(summary.accuracy), f"{summary.kl:.3f}", percent(summary.flops_ratio), *cells])
    return table(["withdraw before", "overall", "KL", "FLOPs %", *tasks], lines)


def one_stage(layer: int, keep: float, name: str, seed: str = "0") -> Schedule:
    criterion = {"name": "random", "seed": int(seed)} if name == "random" else parse_criterion(name).model_dump()
    return Schedule.model_validate({"stages": [{"layer": layer, "keep": {"ratio": keep}, "criterion": criterion}]})


def criteria(measure: Measure, layers: Sequence[int], keep: float) -> str:
    """Accuracy when one stage keeps a share, by criterion and layer; random is the mean of three seeds."""
    arms = [*ROWS, "uniform", *(f"random {seed}" for seed in SEEDS)]
    places = [(layer, arm) for layer in layers for arm in arms]
    measured = measure([one_stage(layer, keep, *arm.split()) for layer, arm in places])
    found: dict[tuple[int, str], list[SampleResult]] = dict(zip(places, measured, strict=True))
    lines = []
    for layer in layers:
        accuracy = {arm: summarise(found[layer, arm]).accuracy for arm in arms}
        accuracy["random"] = sum(accuracy[f"random {seed}"] for seed in SEEDS) / len(SEEDS)
        best = max(ROWS, key=accuracy.__getitem__)
        gain = compare(found[layer, best], found[layer, "random 0"]).overall
        cells = [percent(accuracy[name]) for name in (*ROWS, "uniform", "random")]
        interval = f"{percent(gain.mean)} ± {percent(gain.se)}"
        lines.append([str(layer), *cells, best, interval])
    header = ["prune before", *ROWS, "uniform", "random", "best", "best - random (seed 0) ± SE"]
    return table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=HERE / "model")
    parser.add_argument("--data", type=Path, default=HERE / "test.jsonl")
    parser.add_argument("--rows", type=int, default=None, help="use a part of the rows, drawn by seed 0")
    arguments = parser.parse_args()
    loaded = load_model(str(arguments.model))
    data = load_samples(str(arguments.data), samples=arguments.rows)
    depth = loaded.config.get_text_config(decoder=True).num_hidden_layers
    measure = Evaluator(loaded, data, criteria=[parse_criterion(name) for name in ROWS]).evaluate_many
    print(f"{len(data)} rows of {arguments.data.name}, {depth} layers, model {loaded.fingerprint[:12]}\n")
    print("### Withdrawal (VTW), accuracy in %\n", withdrawal(measure, depth), sep="\n", flush=True)
    for keep in (0.25, 0.1):
        print(
            f"\n### Keep {keep:.0%} at one layer, accuracy in %\n",
            criteria(measure, range(1, depth), keep),
            sep="\n",
            flush=True,
        )


if __name__ == "__main__":
    main()
