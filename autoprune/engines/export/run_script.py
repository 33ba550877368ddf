"""Answer questions about images with the compiled model in the folder of this file, on ONNX Runtime.

    python run.py "What is in the image?" image.png

It needs onnxruntime, numpy, pillow and transformers, whose processor prepares prompt and images; no torch model runs.
The two other scripts in the folder read image files and load the processor.
From Python: ``from run import CompiledModel; CompiledModel(folder).answer("…", [image])``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

Arrays = Mapping[str, np.ndarray[Any, Any]]
Cache = dict[str, Any]
FACTS = "compiled.json"
PIXELS_SCRIPT, PROCESSOR_SCRIPT = "pixels.py", "videoless.py"


class CompiledModel:
    """A compiled model: three graphs, the processor beside them, and the facts that they were compiled with.

    Args:
        folder: What ``autoprune compile`` wrote.
        threads: Threads of one operator; None = as many as there are cores.
        facts: What the graphs were compiled with; None = what stands beside them.

    Raises:
        ValueError: the graphs beside which the facts stand did not do what autoprune does.
    """

    def __init__(self, folder: str | Path, threads: int | None = None, facts: dict[str, Any] | None = None) -> None:
        self.folder = Path(folder)
        self.facts = _checked_facts(self.folder / FACTS) if facts is None else facts
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._vision, self._prefill, self._decode = (
            onnxruntime.InferenceSession(str(self.folder / name), options, providers=["CPUExecutionProvider"])
            for name in ("vision.onnx", "prefill.onnx", "decode.onnx")
        )
        self._processor: Any = None

    @property
    def processor(self) -> Any:
        """The processor of the model, loaded when it is asked for."""
        if self._processor is None:
            self._processor = self._script(PROCESSOR_SCRIPT).load_for_images(self.folder / "processor")
        return self._processor

    def image(self, file: str | Path) -> Any:
        """An image file as RGB (PIL): upright by its EXIF data, on white where it is transparent, in 8 bits.

        Raises:
            OSError: it cannot be read.
            ValueError: it is no image.
        """
        content = Path(file).read_bytes()
        try:
            return self._script(PIXELS_SCRIPT).rgb(content)
        except ValueError as error:
            raise ValueError(f"{file} {error}") from error

    def answer(self, question: str, images: Sequence[Any], max_new_tokens: int = 64) -> str:
        """The greedy answer to a question about images (PIL)."""
        tokens = self.generate(self.encode(question, images), max_new_tokens)
        return str(self.processor.decode(tokens, skip_special_tokens=True)).strip()

    def encode(self, question: str, images: Sequence[Any]) -> dict[str, np.ndarray[Any, Any]]:
        """Inputs of a prompt: the images, then the question, through the chat template."""
        processor = self.processor
        content = [*({"type": "image"} for _ in images), {"type": "text", "text": question}]
        chat = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        start = processor.tokenizer.bos_token
        inputs = processor(
            text=[text],
            images=[list(images)],
            return_tensors="np",
            add_special_tokens=not (start and text.startswith(start)),
        )
        return {name: np.asarray(value) for name, value in inputs.items()}

    def generate(self, inputs: Arrays, max_new_tokens: int = 64) -> list[int]:
        """The tokens of the greedy answer, the end token included."""
        logits, cache = self.prefill(inputs)
        tokens, position = [int(logits.argmax())], inputs["input_ids"].shape[1]
        while tokens[-1] not in self.facts["end_tokens"] and len(tokens) < max_new_tokens:
            logits, cache = self.decode(tokens[-1], position, cache)
            tokens.append(int(logits.argmax()))
            position += 1
        return tokens

    def prefill(self, inputs: Arrays) -> tuple[np.ndarray[Any, Any], Cache]:
        """Logits [vocabulary] of the first answer token, and the cache; each layer's holds its own survivors.

        Raises:
            ValueError: the prompt is not of the shape that was compiled.
        """
        self.check(inputs)
        (features,) = self._vision.run(None, {"pixel_values": inputs["pixel_values"].astype(np.float32)})
        fed = {"input_ids": inputs["input_ids"].astype(np.int64), "features": features}
        return self._ran(self._prefill, fed)

    def decode(self, token: int, position: int, cache: Cache) -> tuple[np.ndarray[Any, Any], Cache]:
        """Logits [vocabulary] behind one more token, and the longer cache.

        Args:
            token: The token.
            position: Its place in prompt and answer, dropped tokens counted.
            cache: What the last call returned.
        """
        fed = {"token": np.array([[token]], np.int64), "position": np.array([[position]], np.int64)}
        return self._ran(self._decode, {**fed, **{f"past_{name}": value for name, value in cache.items()}})

    def check(self, inputs: Arrays) -> None:
        """Refuse a prompt that the graphs were not compiled for: their numbers of visual tokens are fixed.

        They hold one prompt without padding.

        Raises:
            ValueError: with what differs and what was compiled.
        """
        facts, ids, pixels = self.facts, inputs["input_ids"], inputs.get("pixel_values")
        shape = None if pixels is None else list(pixels.shape)
        found = int(np.isin(ids, facts["visual_ids"]).sum())
        for name, value, compiled in (
            ("rows in a batch", len(ids), 1),
            ("the shape of pixel_values", shape, facts["pixel_values"]),
            ("visual tokens", found, facts["visual_tokens"]),
        ):
            if value != compiled:
                raise ValueError(f"compiled for {name} = {compiled}, this prompt has {value}; use images of one size")
        for name, digest in facts["image_settings"].items():
            if name not in inputs or digest_of(inputs[name]) != digest:
                raise ValueError(f"compiled for other values of {name}: use images of the size that was compiled")
        if not np.all(inputs.get("attention_mask", 1)):
            raise ValueError("the attention_mask hides tokens: give one prompt without padding")
        if bool(np.isin(ids[0, -1], facts["visual_ids"])):
            raise ValueError("the prompt ends with an image: put text behind it")
        if not facts["visual_tokens"] + 2 <= ids.shape[1] <= facts["longest_prompt"]:
            raise ValueError(
                f"compiled for prompts of at most {facts['longest_prompt']} tokens with at least two of text, this one "
                f"has {ids.shape[1]}"
            )

    def _script(self, name: str) -> types.ModuleType:
        """A script of the folder as a module, wherever this one was imported from."""
        file = self.folder / name
        module = types.ModuleType(f"compiled_{file.stem}")
        exec(compile(file.read_text(encoding="utf-8"), file, "exec"), module.__dict__)  # leaves no __pycache__ there
        return module

    def _ran(self, session: Any, fed: Mapping[str, Any]) -> tuple[np.ndarray[Any, Any], Cache]:
        names = [output.name for output in session.get_outputs()]
        logits, *entries = session.run(None, dict(fed))
        if not np.isfinite(logits).all():
            raise ValueError("the logits are not finite")
        return logits[0], dict(zip(names[1:], entries, strict=True))


def digest_of(values: np.ndarray[Any, Any]) -> str:
    """SHA-256 of an array: its shape, and its numbers as 64-bit integers, or as doubles where they are none."""
    whole = np.ascontiguousarray(values, np.float64 if values.dtype.kind == "f" else np.int64)
    return hashlib.sha256(repr(whole.shape).encode() + whole.tobytes()).hexdigest()


def _checked_facts(file: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if not facts["check"]["passed"]:
        raise ValueError("the graphs did not do what autoprune does when they were compiled: compile the model again")
    return facts


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question")
    parser.add_argument("image", nargs="+", help="image files, in the order in which they stand before the question")
    parser.add_argument("--max-new-tokens", type=int, default=64, help="longest answer (default 64)")
    given = parser.parse_args()
    try:
        compiled = CompiledModel(Path(__file__).parent)
        images = [compiled.image(name) for name in given.image]
        answer = compiled.answer(given.question, images, given.max_new_tokens)
    except (OSError, ValueError) as error:
        parser.exit(2, f"error: {error}\n")
    sys.stdout.write(answer + "\n")


if __name__ == "__main__":
    main()
