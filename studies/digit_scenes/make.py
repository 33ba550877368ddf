"""Makes the digit_scenes study from nothing: trains the model, writes the data, measures the model.

    python studies/digit_scenes/make.py train                 model/, from a seed, on CPU, in at most 40 minutes
    python studies/digit_scenes/make.py data                  calibration.jsonl, validation.jsonl, test.jsonl, images/
    python studies/digit_scenes/make.py evaluate              accuracy of the committed model on test.jsonl
    python studies/digit_scenes/make.py scenes --split test --count 1600 --seed 7 --output DIR
                                                              further rows: DIR/test-seed7.jsonl, DIR/images/test-seed7/

What is trained, stage after stage: the vision tower on the digit, colour and place of every patch (tower.py); then, on
its cached features, projector and text model on packed questions (language.py, packing.py). Scenes are drawn by
scenes.py from the real scans of scans.py, questions by questions.py; scans are disjoint between training, calibration
with validation, and test. `scenes` names its seed in every id and image, so rows of several seeds can be put together,
and overwrites nothing. The scans come with scikit-learn (pip install scikit-learn).

Training has a fixed number of steps and is a function of the seed, the library versions and the thread count (2). The
weights are rounded to bfloat16 when written; everything is measured with the rounded weights, in float32. On a machine
that is busy otherwise, set OMP_WAIT_POLICY=PASSIVE: waiting threads then leave the cores to others.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from data import SIZES, check_unwritten, write_rows
from evaluation import accuracy_table
from language import train_language
from network import build_model
from processor import build_processor
from tower import train_tower
from transformers import LlavaForConditionalGeneration

HERE = Path(__file__).parent


def save(model: LlavaForConditionalGeneration, folder: Path) -> None:
    """Write weights (bfloat16), configuration and processor."""
    model.to(torch.bfloat16).save_pretrained(folder)
    build_processor().save_pretrained(folder)


def train(seed: int, output: Path) -> None:
    torch.manual_seed(seed)
    torch.set_num_threads(2)
    start, cpu = time.perf_counter(), time.process_time()

    def report(what: str) -> None:
        print(f"{what}: {time.perf_counter() - start:.0f} s, CPU {time.process_time() - cpu:.0f} s", flush=True)

    model = build_model()
    train_tower(model.model.vision_tower, seed)
    report("tower trained")
    save(model, output)
    train_language(model, seed, milestone=report)
    save(model, output)
    report("model trained")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, is {number}")
    return number


def _further_seed(text: str) -> int:
    seed = int(text)
    if seed < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, is {seed}: seed 0 drew the committed rows")
    return seed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="train the model from scratch")
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--output", type=Path, default=HERE / "model")
    data = commands.add_parser("data", help="write the three committed data files")
    data.add_argument("--output", type=Path, default=HERE)
    scenes = commands.add_parser("scenes", help="draw further scenes of one split")
    scenes.add_argument("--split", choices=[*SIZES, "train"], required=True)
    scenes.add_argument("--count", type=_positive, required=True, help="number of scenes")
    scenes.add_argument("--questions", type=_positive, default=2, help="questions a scene (default 2)")
    scenes.add_argument("--seed", type=_further_seed, required=True, help="1 or more; 0 drew the committed rows")
    scenes.add_argument("--output", type=Path, required=True)
    evaluate = commands.add_parser("evaluate", help="measure a model with plain generate()")
    evaluate.add_argument("--model", type=Path, default=HERE / "model")
    evaluate.add_argument("--data", type=Path, default=HERE / "test.jsonl")
    return parser


def draw_scenes(split: str, count: int, questions: int, seed: int, output: Path) -> Path:
    """Further rows of a split; ends the program with one line where they cannot be drawn."""
    try:
        check_unwritten(split, seed, output)
        return write_rows(split, count, questions, seed, output)
    except (FileExistsError, ModuleNotFoundError) as error:
        sys.exit(f"make.py scenes: {error}")


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.command == "train":
        train(arguments.seed, arguments.output)
    elif arguments.command == "data":
        for split, (count, questions) in SIZES.items():
            print(write_rows(split, count, questions, 0, arguments.output))
    elif arguments.command == "scenes":
        print(draw_scenes(arguments.split, arguments.count, arguments.questions, arguments.seed, arguments.output))
    else:
        print(accuracy_table(arguments.model, arguments.data))


if __name__ == "__main__":
    main()
