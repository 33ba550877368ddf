"""How much faster the evaluator scores a schedule than generating with it, same batches, in CPU time.

    python studies/digit_scenes/speed.py                    24 random schedules on 128 calibration rows

With `--study` the same on another study's model and rows.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from pathlib import Path

import torch

from autoprune import Schedule, apply
from autoprune.data.samples import load_samples
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.evaluator import Evaluator
from autoprune.models.loading import load_model
from autoprune.schedule import parse_criterion

HERE = Path(__file__).parent
BATCH = 16
CRITERIA = ("last", "text", "visual")
KEEPS = (0.7, 0.5, 0.3, 0.2, 0.1, 0.05, 0.0)


def random_schedule(depth: int, rng: random.Random) -> Schedule:
    stages = []
    layers = sorted(rng.sample(range(1, depth), rng.randint(1, 3)))
    for layer, keep in zip(layers, sorted(rng.sample(KEEPS, len(layers)), reverse=True), strict=True):
        criterion = parse_criterion(rng.choice(CRITERIA)).model_dump() if keep else None
        stages.append({"layer": layer, "keep": {"ratio": keep}, "criterion": criterion})
    return Schedule.model_validate({"stages": stages})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=HERE, help="folder of model/ and calibration.jsonl")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--schedules", type=int, default=24)
    parser.add_argument("--max-new-tokens", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(0)
    loaded = load_model(given.study / "model")
    data = load_samples(given.study / "calibration.jsonl", samples=given.rows)
    criteria = [parse_criterion(name) for name in CRITERIA]
    longest = given.max_new_tokens
    evaluator = Evaluator(loaded, data, batch_size=BATCH, max_new_tokens=longest, criteria=criteria)
    evaluator.prepare()
    batches = [encode(loaded.processor, data.samples[i : i + BATCH]) for i in range(0, given.rows, BATCH)]
    evaluated, generated, equal = [], [], 0
    for _ in range(given.schedules):
        schedule = random_schedule(loaded.config.get_text_config().num_hidden_layers, rng)
        start = time.process_time()
        results = evaluator.evaluate(schedule)
        middle = time.process_time()
        texts: list[str] = []
        with apply(loaded.model, schedule), torch.no_grad():
            for inputs in batches:
                answers = loaded.model.generate(**inputs, max_new_tokens=longest)[:, inputs["input_ids"].shape[1] :]
                texts += loaded.processor.batch_decode(answers, skip_special_tokens=True)
        generated.append(time.process_time() - middle)
        evaluated.append(middle - start)
        equal += sum(result.text.strip() == text.strip() for result, text in zip(results, texts, strict=True))
    ratios = [slow / fast for slow, fast in zip(generated, evaluated, strict=True)]
    print(f"generate / evaluate: median {statistics.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")
    print(f"median candidate: {statistics.median(evaluated):.2f} s of CPU for {given.rows} rows")
    print(f"equal answers: {equal} of {given.schedules * given.rows}; near ties {evaluator.near_ties:.1%}")
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
