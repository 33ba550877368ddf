"""Cases of a fuzz: a folder of good inputs of which one is spoilt, and a command line that reads it."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from support.fuzzing.mutations import as_json, spoil_bytes, spoil_path, spoil_tree

STUDY: dict[str, Any] = {
    "name": "fuzz",
    "model": {"path": "model", "dtype": "float32", "device": "cpu", "processor": {}, "generation": {}},
    "data": {
        "calibration": {"path": "data.jsonl", "samples": 8, "seed": 0, "columns": {"prompt": "prompt"}},
        "validation": {"path": "data.jsonl", "split": "train"},
    },
    "objectives": ["flops", "accuracy"],
    "constraints": {"max_drop": {"*": 0.5}},
    "space": {"layers": [1, 2, 3], "keep": [0.0, 0.25, 0.5], "criteria": ["last", {"name": "random", "seed": 1}]},
    "baselines": ["vtw", "fastv"],
    "search": {"sampler": "tpe", "trials": 4, "minutes": None, "seed": 0, "racing": True},
    "evaluation": {"batch_size": 4, "max_new_tokens": 4},
    "workers": {"count": 0, "cpus": 1, "gpus": 0},
    "output": "study",
    "storage": None,
    "storage_wait": 1,
}
_ON_ROWS = (
    "verify model schedule.json --data data.jsonl --max-new-tokens 4",
    "apply-check model schedule.json --data data.jsonl",
    "sweep model --data data.jsonl",
    "flow model --data data.jsonl",
    "codebook model --data data.jsonl -o made.safetensors --variant paper --probes 4",
    "ablate model --data data.jsonl -o page.html --k1 1 --k2 3 --keep1 0.5 --keep2 0.25",
    "fitprune model --data data.jsonl -o made.json --budget 0.8",
    "calibrate study.yaml --dry-run",
    "transfer schedule.json model --data data.jsonl -o made.json --local-search 2 --max-new-tokens 4",
)
_ON_SCHEDULES = (
    "apply-check model schedule.json",
    "verify model schedule.json --data data.jsonl --max-new-tokens 4",
    "doctor model schedule.json",
    "bench model schedule.json --visual-tokens 16 --new-tokens 2 --repeats 1 --warmup 0",
    "transfer schedule.json model --data data.jsonl -o made.json --local-search 2 --max-new-tokens 4",
)
_ON_FRONTS = (
    "report run",
    "export run -o made.json",
    "export run --max-flops 0.5 -o made.json",
    "export run --trial 3 -o made.json",
    "export run --max-drop 0.1 --confidence 0.9 -o made.json",
)
COMMANDS = {
    "study": ("calibrate study.yaml --dry-run", "calibrate study.yaml --trials 2 --workers 0"),
    "rows": _ON_ROWS,
    "schedule": _ON_SCHEDULES,
    "image": _ON_ROWS,
    "front": _ON_FRONTS,
    "codebook": _ON_SCHEDULES[:3],
}
"""Command lines by the kind of input that is spoilt."""
_FILES = {
    "study": "study.yaml",
    "rows": "data.jsonl",
    "schedule": "schedule.json",
    "front": "run/front.json",
    "codebook": "book.safetensors",
}
_STRANGE_SCHEDULES: tuple[dict[str, Any], ...] = (
    {"name": "attention", "rows": "last", "heads": "max", "at": "current"},
    {"name": "encoder"},
    {"name": "diversity"},
    {"name": "random", "seed": 3},
    {"name": "uniform"},
)


@dataclass(frozen=True)
class Case:
    """A command line in a folder, and what was done to its input."""

    folder: Path
    line: str
    told: str


def make_case(number: int, seed: int, good: Path, folder: Path) -> Case:
    """The case of a number: the same for the same seed.

    Args:
        number: Of the case.
        seed: Of all cases.
        good: Folder of good inputs: ``model``, rows with images, ``book.safetensors``.
        folder: Empty folder of the case.
    """
    rng = random.Random(f"{seed} {number}")
    kind = sorted(COMMANDS)[number % len(COMMANDS)]
    _fill(folder, good, _schedule(good, rng, codebook=kind == "codebook"))
    told = _spoil_image(folder, rng) if kind == "image" else _spoil(kind, folder / _FILES[kind], rng)
    if kind == "codebook" and rng.random() < 0.7 and (folder / "book.safetensors").is_file():
        (folder / "schedule.json").write_text(json.dumps(_schedule(folder, rng, codebook=True)))  # with its new digest
    return Case(folder, rng.choice(COMMANDS[kind]), f"{kind}: {told}")


def good_case(kind: str, line: str, good: Path, folder: Path) -> Case:
    """A command line on inputs that nothing was done to."""
    _fill(folder, good, _schedule(good, random.Random(0), codebook=kind == "codebook"))
    return Case(folder, line, "nothing")


def _fill(folder: Path, good: Path, schedule: dict[str, Any]) -> None:
    """The inputs of a case."""
    shutil.copytree(good, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model"))
    (folder / "model").symlink_to(good / "model")
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))
    (folder / "schedule.json").write_text(json.dumps(schedule))


def _schedule(folder: Path, rng: random.Random, *, codebook: bool) -> dict[str, Any]:
    book = folder / "book.safetensors"
    if codebook:
        digest, count = sha256(book.read_bytes()).hexdigest(), int((folder / "prototypes").read_text())
        criterion = {"name": "codebook", "path": book.name, "sha256": digest, "prototypes": count}
    else:
        criterion = rng.choice(_STRANGE_SCHEDULES)
    stages = [
        {"layer": 0 if codebook else 1, "keep": {"ratio": 0.5}, "criterion": criterion},
        {"layer": 3, "keep": {"count": 4}, "criterion": {"name": "attention", "rows": "text"}},
        {"layer": 5, "keep": {"ratio": 0.0}},
    ]
    return {"format": "autoprune.schedule", "version": 1, "model": None, "stages": stages, "evidence": {"note": "x"}}


def _spoil(kind: str, file: Path, rng: random.Random) -> str:
    if (chance := rng.random()) < 0.06:
        return spoil_path(file, rng)
    if kind == "codebook" or chance < 0.3:
        data, how = spoil_bytes(file.read_bytes(), rng)
        file.write_bytes(data)
        return how
    if kind == "study":
        tree, how = spoil_tree(yaml.safe_load(file.read_text()), rng)
        file.write_text(_yaml(tree))
    elif kind == "rows":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        place = rng.randrange(len(rows))
        rows[place], how = spoil_tree(rows[place], rng)
        file.write_text("".join(as_json(row) + "\n" for row in rows))
    else:
        tree, how = spoil_tree(json.loads(file.read_text()), rng)
        file.write_text(as_json(tree))
    return how


def _yaml(tree: Any) -> str:
    """JSON is YAML, and has what YAML's own writer refuses."""
    return as_json(tree).replace("NaN", ".nan").replace("-Infinity", "-.inf").replace("Infinity", ".inf")


def _spoil_image(folder: Path, rng: random.Random) -> str:
    file = rng.choice(sorted(folder.glob("*.png")))
    if rng.random() < 0.2:
        return f"{file.name} {spoil_path(file, rng)}"
    if rng.random() < 0.4:
        return f"{file.name} {_other_format(file, rng)}"
    data, how = spoil_bytes(file.read_bytes(), rng)
    file.write_bytes(data)
    return f"{file.name} {how}"


def _other_format(file: Path, rng: random.Random) -> str:
    """The picture in another format, mode or size under the same name."""
    from PIL import Image

    mode, form = (
        rng.choice(["1", "L", "P", "RGBA", "CMYK", "I;16", "F", "LA"]),
        rng.choice(["PNG", "TIFF", "GIF", "BMP"]),
    )
    size = rng.choice([(1, 1), (1, 300), (3000, 2), (24, 24)])
    image = Image.new("L" if mode == "I;16" else mode, size)
    try:
        (image.convert("I;16") if mode == "I;16" else image).save(file, format=form)
    except (OSError, ValueError):  # the format has no such mode
        image.convert("RGB").save(file, format=form)
    return f"{form} {mode} {size}"
