"""The redundancy codebook's own trade-off: what is left of the accuracy when a share of the tokens enters the decoder.

python studies/digit_scenes/codebook.py SCHEDULE        the schedule that `autoprune codebook` wrote
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tradeoff import Measure

from autoprune import Schedule, presets
from autoprune.data.samples import load_samples
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.results import compare, summarise
from autoprune.models.loading import load_model
from autoprune.schedule import Criterion

HERE = Path(__file__).parent
KEEPS = (0.7, 0.5, 0.3, 0.2, 0.1)
ARMS = ("codebook", "diversity", "uniform", "random")


def table(measure: Measure, book: Criterion, keeps: Sequence[float] = KEEPS) -> str:
    """Markdown: accuracy when a share of the tokens enters the decoder, by who chooses them."""

    def one_stage(keep: float, arm: str) -> Schedule:
        criterion = book.model_dump() if arm == "codebook" else {"name": arm}
        return Schedule.model_validate({"stages": [{"layer": 0, "keep": {"ratio": keep}, "criterion": criterion}]})

    places = [(keep, arm) for keep in keeps for arm in ARMS]
    dense, *measured = measure([presets.dense(), *(one_stage(*place) for place in places)])
    found = dict(zip(places, measured, strict=True))
    lines = [f"{len(dense)} test rows, dense {100 * summarise(dense).accuracy:.1f}", ""]
    lines += ["| keep | FLOPs % | " + " | ".join(ARMS) + " | codebook - random [95 %] |", "|---" * 7 + "|"]
    for keep in keeps:
        lead = compare(found[keep, "codebook"], found[keep, "random"]).overall
        accuracies = " | ".join(f"{100 * summarise(found[keep, arm]).accuracy:.1f}" for arm in ARMS)
        flops = 100 * summarise(found[keep, "codebook"]).flops_ratio
        ends = f"{100 * lead.mean:.1f} [{100 * lead.low:.1f}, {100 * lead.high:.1f}]"
        lines.append(f"| {keep:.0%} | {flops:.1f} | {accuracies} | {ends} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("schedule", type=Path)
    parser.add_argument("--rows", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    book = Schedule.load(options.schedule).stages[0].criterion
    assert book is not None, "a schedule that `autoprune codebook` wrote has a criterion"
    evaluator = Evaluator(load_model(HERE / "model"), load_samples(HERE / "test.jsonl", samples=options.rows))
    print(table(evaluator.evaluate_many, book))


if __name__ == "__main__":
    main()
