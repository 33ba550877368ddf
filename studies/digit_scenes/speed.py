"""How much faster the evaluator scores a schedule than generating with it, same batches, in CPU time.

python studies/digit_scenes/speed.py                    24 random schedules on 128 calibration rows
"""

from __future__ import annotations

import random
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
ROWS, SCHEDULES, BATCH, NEW_TOKENS = 128, 24, 16, 8
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
    torch.set_num_threads(1)
    rng = random.Random(0)
    loaded = load_model(str(HERE / "model"))
    data = load_samples(str(HERE / "calibration.jsonl"), samples=ROWS)
    criteria = [parse_criterion(name) for name in CRITERIA]
    evaluator = Evaluator(loaded, data, batch_size=BATCH, max_new_tokens=NEW_TOKENS, criteria=criteria)
    evaluator.prepare()
    batches = [encode(loaded.processor, data.samples[i : i + BATCH]) for i in range(0, ROWS, BATCH)]
    ratios, equal = [], 0
    for _ in range(SCHEDULES):
        schedule = random_schedule(loaded.config.get_text_config().num_hidden_layers, rng)
        start = time.process_time()
        results = evaluator.evaluate(schedule)
        middle = time.process_time()
        texts: list[str] = []
        with apply(loaded.model, schedule), torch.no_grad():
            for inputs in batches:
                answers = loaded.model.generate(**inputs, max_new_tokens=NEW_TOKENS)[:, inputs["input_ids"].shape[1] :]
                texts += loaded.processor.batch_decode(answers, skip_special_tokens=True)
        ratios.append((time.process_time() - middle) / (middle - start))
        equal += sum(result.text.strip() == text.strip() for result, text in zip(results, texts, strict=True))
    print(f"generate / evaluate: median {statistics.median(ratios):.1f}, {min(ratios):.1f} to {max(ratios):.1f}")
    print(f"equal answers: {equal} of {SCHEDULES * ROWS}")


if __name__ == "__main__":
    main()
