"""What shared work saves: CPU time of one thread per schedule, and per token-layer, verdicts compared.

python studies/search_quality/sharing.py grid --families 8     families of the old space: shared, and each one alone
python studies/search_quality/sharing.py mix --schedules 100   draws and presets one at a time: evaluator, generate()
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from grid import GRIDS, KEEP, families  # noqa: E402

from autoprune import Schedule, apply, presets  # noqa: E402
from autoprune.data.samples import SampleSet, load_samples  # noqa: E402
from autoprune.evaluate.encoding import encode  # noqa: E402
from autoprune.evaluate.evaluator import Evaluator  # noqa: E402
from autoprune.models.loading import LoadedModel, load_model  # noqa: E402
from autoprune.search.space import SearchSpace  # noqa: E402

MODEL = HERE.parent / "digit_scenes"
NEW_TOKENS = 8
PRESETS = ("vtw", "fastv", "himap", "pyramiddrop", "divprune", "visionzip")
GROUPS = {"layer 0": range(1), "layers 1 to 3": range(1, 4), "deeper": range(4, 99), "2 and deeper": range(2, 99)}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of a call, and what it returns."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def opened(loaded: LoadedModel, data: SampleSet, space: SearchSpace, batch: int) -> Evaluator:
    """An evaluator that has answered all rows with the dense model."""
    criteria = [method.criterion for method in space.methods.values()]
    evaluator = Evaluator(loaded, data, batch_size=batch, max_new_tokens=NEW_TOKENS, criteria=criteria)
    evaluator.prepare()
    return evaluator


def measure_grid(loaded: LoadedModel, data: SampleSet, options: argparse.Namespace) -> None:
    """Whole families of the old space with shared stages, and some of their schedules one at a time, also unshared."""
    space = GRIDS["old"].space
    rng = random.Random(options.seed)
    drawn = rng.sample(families(space), options.families)
    schedules = [schedule for family in drawn for schedule in family]
    evaluator = opened(loaded, data, space, options.batch)
    seconds, shared = timed(lambda: evaluator.evaluate_many(schedules))
    sharing, each = evaluator.sharing, seconds / len(schedules)
    picked = rng.sample(range(len(schedules)), min(options.alone, len(schedules)))
    taken, alone = timed(lambda: [evaluator.evaluate(schedules[place]) for place in picked])
    together, _ = timed(lambda: evaluator.evaluate_many([schedules[place] for place in picked]))
    batches = encoded(loaded, data, options.batch)
    unshared, _ = timed(lambda: [generated(loaded, batches, schedules[place]) for place in picked])
    wrong = sum(
        one.correct != two.correct
        for place, results in zip(picked, alone, strict=True)
        for one, two in zip(results, shared[place], strict=True)
    )
    print(f"{len(schedules)} schedules of {len(drawn)} families, {len(data)} rows, batches of {options.batch}")
    print(f"shared: {each:.3f} s per schedule, {each * space.size() / 60:.1f} min for all {space.size()}")
    print(
        f"alone:  {taken / len(picked):.3f} s per schedule ({len(picked)} of them): {taken / len(picked) / each:.1f} x"
    )
    unshared /= len(picked)
    print(f"nothing shared, generate() under the patch: {unshared:.3f} s per schedule: {unshared / each:.1f} x")
    print(f"the same {len(picked)} as one list: {together / len(picked):.3f} s per schedule")
    print(
        f"token-layers: from scratch 1, by the dense prefix {sharing.by_prefix / sharing.from_scratch:.3f}, "
        f"shared {sharing.run / sharing.from_scratch:.3f}"
    )
    print(f"verdicts that differ: {wrong} of {len(picked) * len(data)}")


def encoded(loaded: LoadedModel, data: SampleSet, batch: int) -> list[dict[str, Any]]:
    """Model inputs of all rows, in their order."""
    starts = range(0, len(data), batch)
    return [encode(loaded.processor, list(data)[start : start + batch]) for start in starts]


def generated(loaded: LoadedModel, batches: Sequence[dict[str, Any]], schedule: Schedule) -> list[str]:
    """Answers of the patched model."""
    texts: list[str] = []
    with apply(loaded.model, schedule), torch.no_grad():
        for inputs in batches:
            answers = loaded.model.generate(**inputs, max_new_tokens=NEW_TOKENS)[:, inputs["input_ids"].shape[1] :]
            texts += loaded.processor.batch_decode(answers, skip_special_tokens=True)
    return [text.strip() for text in texts]


def measure_mix(loaded: LoadedModel, data: SampleSet, options: argparse.Namespace) -> None:
    """Schedules as a search asks for them, one at a time, against `generate()` under the patch."""
    depth = loaded.config.get_text_config().num_hidden_layers
    space = SearchSpace(tuple(range(depth)), KEEP, GRIDS["whole"].space.methods, 3)
    rng = np.random.default_rng(options.seed)
    schedules = [space.draw(rng) for _ in range(options.schedules)]
    schedules += [presets.for_depth(name, depth) for name in PRESETS]
    evaluator = opened(loaded, data, space, options.batch)
    batches = encoded(loaded, data, options.batch)
    ratios: list[tuple[int, float]] = []
    differ = 0
    for schedule in schedules:
        fast, results = timed(lambda schedule=schedule: evaluator.evaluate(schedule))
        slow, texts = timed(lambda schedule=schedule: generated(loaded, batches, schedule))
        ratios.append((schedule.stages[0].layer, slow / fast))
        differ += sum(result.text.strip() != text for result, text in zip(results, texts, strict=True))
    print(f"{len(schedules)} schedules one at a time, {len(data)} rows, batches of {options.batch}")
    print("| first stage | schedules | generate / evaluate, median | least | most |\n|---|---|---|---|---|")
    for name, layers in GROUPS.items():
        found = [ratio for layer, ratio in ratios if layer in layers]
        if found:
            print(f"| {name} | {len(found)} | {statistics.median(found):.1f} | {min(found):.1f} | {max(found):.1f} |")
    print(f"answers that differ: {differ} of {len(schedules) * len(data)}")
    sharing = evaluator.sharing
    print(f"token-layers from scratch 1, run {sharing.run / sharing.from_scratch:.3f}: hit rate {sharing.hit_rate:.3f}")


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("grid", "mix"))
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--families", type=int, default=8)
    parser.add_argument("--alone", type=int, default=40)
    parser.add_argument("--schedules", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded, data = load_model(MODEL / "model"), load_samples(MODEL / "calibration.jsonl", samples=options.rows)
    (measure_grid if options.what == "grid" else measure_mix)(loaded, data, options)


if __name__ == "__main__":
    main()
