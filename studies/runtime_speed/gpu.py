"""All GPU tables of this study in one command: every preset beside the dense model, in the shape of LLaVA-1.5-7B.

python studies/runtime_speed/gpu.py            on a machine with a GPU of 40 GB or more: at most 8 minutes
python studies/runtime_speed/gpu.py --tiny     the same on any machine, a model of four narrow layers: a trial run

Writes gpu.json and gpu.md (tiny.json and tiny.md with --tiny) into the folder of this study, and again after each part,
so that a run that is cut short loses nothing. Weights are random, since times do not depend on them. What no longer
fits into the time, or into the memory of the GPU, is left out, and the tables say so.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from autoprune import presets
from autoprune.bench import BenchPlan, benchmark
from autoprune.doctor import ModelUnderTest, default_schedules, examine
from autoprune.doctor.prompts import reserved_ids, words
from autoprune.errors import AutopruneError
from autoprune.evaluate.latency import time_prefill
from autoprune.models.environment import hardware, versions
from autoprune.models.options import ModelOptions
from autoprune.models.random_init import random_model
from autoprune.schedule import Reads, Schedule

sys.path.append(str(Path(__file__).parent))
from gpu_tables import markdown

HERE = Path(__file__).parent
SHAPE = HERE / "llava_7b.json"
EXACT_LAYERS = 8
TINY_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 200,
}
TINY_VISION = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True)
class Size:
    """How much is measured: settings are (batch size, visual tokens), the cheap ones first."""

    settings: tuple[tuple[int, int], ...] = ((1, 576), (8, 576), (1, 2880), (8, 2880))
    tower_batches: tuple[int, ...] = (1, 8)
    text_tokens: int = 64
    new_tokens: int = 8
    rounds: int = 3


TINY = Size(settings=((1, 16), (2, 32)), tower_batches=(1,), text_tokens=8, new_tokens=2, rounds=1)


@dataclass
class Budget:
    """Wall time that is left, judged by what the last part of the same kind took.

    Attributes:
        deadline: On the clock of `time.monotonic`.
        last: For each kind of part, the seconds that the last one took, and its prompt tokens.
    """

    deadline: float
    last: dict[str, tuple[float, int]] = field(default_factory=dict)

    def run(self, kind: str, tokens: int, part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a part; or the reason why there is none, beside the key ``left_out``."""
        seconds, earlier = self.last.get(kind, (0.0, tokens))
        started = time.monotonic()
        if started + seconds * max(1.0, tokens / earlier) > self.deadline:
            return {"left_out": "the time was spent"}
        try:
            result = part()
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return {"left_out": "out of memory"}
        except AutopruneError as error:
            return {"left_out": str(error)}
        self.last[kind] = (time.monotonic() - started, tokens)
        return result


@dataclass
class Tables:
    """Everything measured so far, as it is written to the files."""

    setup: dict[str, Any]
    exactness: dict[str, Any] = field(default_factory=dict)
    text_model: list[dict[str, Any]] = field(default_factory=list)
    with_tower: list[dict[str, Any]] = field(default_factory=list)

    def write(self, stem: Path) -> None:
        content = asdict(self)
        stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        stem.with_suffix(".md").write_text(markdown(content), encoding="utf-8")


def read_shape(tiny: bool) -> Any:
    config = AutoConfig.from_pretrained(SHAPE)
    if tiny:
        config.text_config.update(TINY_TEXT)
        config.vision_config.update({**TINY_VISION, "image_size": 56})
        config.image_token_index = config.image_token_id = 100
        config.pad_token_id = config.text_config.pad_token_id = 0
    return config


def chosen(depth: int) -> dict[str, Schedule | str]:
    """Every preset that prunes, mapped to a depth; or why the model is too shallow for it."""
    schedules: dict[str, Schedule | str] = {}
    for name in presets.NAMES:
        try:
            schedule = presets.for_depth(name, depth)
        except AutopruneError as error:
            schedules[name] = str(error)
            continue
        if schedule.stages:
            schedules[name] = schedule
    return schedules


def reads_tower(schedule: Schedule) -> bool:
    return any(stage.criterion is not None and stage.criterion.reads is Reads.TOWER for stage in schedule.stages)


def measure_exactness(config: Any, dtype: str) -> dict[str, Any]:
    """The doctor's checks against the masked reference, on the first layers of the shape.

    Rounding adds up over layers: with random weights in bfloat16, two dense runs of all 32 layers differ by as much as
    pruning changes, and nothing could be shown.
    """
    model = random_model(
        config, layers=min(EXACT_LAYERS, config.text_config.num_hidden_layers), options=ModelOptions(dtype=dtype)
    )
    tested = ModelUnderTest(model, words(model, "timed without a processor"), reserved_ids(model))
    return {"layers": tested.depth, **examine(tested, default_schedules(model, tested.prompts.rows[0])).to_dict()}


def measure_text_model(model: Any, schedule: Schedule, batch: int, visual: int, size: Size) -> dict[str, Any]:
    """One preset beside the dense text model."""
    plan = BenchPlan({"pruned": schedule}, (batch,), (visual,), size.text_tokens, size.new_tokens, size.rounds)
    (setting,) = benchmark(model, plan).settings
    return {"dense": asdict(setting.dense), "pruned": asdict(setting.pruned[0])}


def measure_with_tower(model: Any, schedule: Schedule, batch: int, size: Size) -> dict[str, Any]:
    """One preset beside the dense model, from pixels to the last new token."""
    vision = model.config.vision_config
    visual = (vision.image_size // vision.patch_size) ** 2
    ids = torch.arange(2, 2 + size.text_tokens).repeat(batch, 1)
    image = torch.full((batch, visual), model.config.image_token_id)
    ids = torch.cat([image, ids], 1).to(model.device)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(batch, 3, vision.image_size, vision.image_size, generator=generator)
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "pixel_values": pixels.to(model.device, model.dtype),
    }
    dense, pruned = time_prefill(model, inputs, [None, schedule], size.rounds, new_tokens=size.new_tokens)
    return {"dense": asdict(dense), "pruned": asdict(pruned), "visual_tokens": visual}


def run(size: Size, tiny: bool, minutes: float, stem: Path, say: Callable[[str], object] = lambda line: None) -> Tables:
    started = time.monotonic()
    budget = Budget(started + 60 * minutes)
    on_gpu = torch.cuda.is_available()
    config = read_shape(tiny)
    dtype = "bfloat16" if on_gpu else "float32"
    model = random_model(config, options=ModelOptions(dtype=dtype))
    schedules = chosen(config.text_config.num_hidden_layers)
    tables = Tables(
        {
            **hardware(model.device),
            "versions": versions(),
            "layers": config.text_config.num_hidden_layers,
            "width": config.text_config.hidden_size,
            "dtype": str(model.dtype).removeprefix("torch."),
            "attention": model.get_decoder().config._attn_implementation,
            **asdict(size),
            "minutes": minutes,
        }
    )

    def measure(kind: str, row: dict[str, Any], tokens: int, part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        say(", ".join(map(str, (kind, *row.values()))))
        result = {**row, **budget.run(kind, tokens, part)}
        tables.setup["seconds"] = round(time.monotonic() - started, 1)
        return result

    tables.exactness = measure("exactness", {}, 1, partial(measure_exactness, config, dtype))
    for batch in size.tower_batches:
        for name, schedule in schedules.items():
            if isinstance(schedule, Schedule) and (reads_tower(schedule) or name == "fastv"):
                part = partial(measure_with_tower, model, schedule, batch, size)
                row = {"batch": batch, "name": name}
                tables.with_tower.append(measure("vision tower and text model", row, batch, part))
                tables.write(stem)
    for batch, visual in size.settings:
        for name, schedule in schedules.items():
            row = {"batch": batch, "visual_tokens": visual, "name": name}
            if isinstance(schedule, str):
                tables.text_model.append({**row, "left_out": schedule})
            elif not reads_tower(schedule):
                part = partial(measure_text_model, model, schedule, batch, visual, size)
                tokens = batch * (visual + size.text_tokens)
                tables.text_model.append(measure("text model", row, tokens, part))
                tables.write(stem)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape, on a CPU if there is no GPU")
    parser.add_argument("--minutes", type=float, default=7.5, help="no part begins that would end later (default 7.5)")
    parser.add_argument("--output", type=Path, default=HERE, help="folder of the tables (default: that of this study)")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("needs a GPU that torch can use; --tiny runs without one")
    options.output.mkdir(parents=True, exist_ok=True)
    stem = options.output / ("tiny" if options.tiny else "gpu")
    tables = run(TINY if options.tiny else Size(), options.tiny, options.minutes, stem, partial(print, file=sys.stderr))
    print(markdown(asdict(tables)))


if __name__ == "__main__":
    main()
