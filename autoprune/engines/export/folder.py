"""A model under a schedule compiled into a folder: graphs, weights, processor, script, and the facts about them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoprune.data import pixels
from autoprune.data.rows import Sample
from autoprune.data.synthetic import synthetic_sample
from autoprune.engines.export import run_script
from autoprune.engines.export.check import Agreement, compare
from autoprune.engines.export.decode import Decode
from autoprune.engines.export.graphs import exported, growing, write_onnx
from autoprune.engines.export.prefill import Prefill
from autoprune.engines.export.refusals import check_config, check_layers, check_schedule
from autoprune.engines.export.run_script import FACTS, PIXELS_SCRIPT, PROCESSOR_SCRIPT, CompiledModel, digest_of
from autoprune.engines.export.steps import Step, steps_of, visual_alive
from autoprune.engines.export.vision import PIXELS, Vision, settings_of
from autoprune.engines.export.weights import SharedWeights
from autoprune.errors import DataError, EvaluationError, ModelError
from autoprune.evaluate.encoding import model_inputs
from autoprune.evaluate.greedy import end_tokens
from autoprune.models import videoless
from autoprune.models.environment import versions
from autoprune.models.generation import check_greedy
from autoprune.models.loading import LoadedModel
from autoprune.runtime.decoder import find_decoder, visual_token_ids
from autoprune.schedule import ModelIdentity, Schedule

PROGRAM = "prefill.pt2"
_PACKAGES = ("autoprune", "torch", "transformers", "onnx", "onnxscript", "onnxruntime")
_LEAST_TEXT = 2
"""Text tokens that a prompt has at least; a graph that may have none of an axis is another graph."""


@dataclass(frozen=True)
class Compiled:
    """A compiled model on disk.

    Attributes:
        facts: What stands in ``compiled.json``.
        agreement: The graphs beside autoprune on transformers.
    """

    facts: dict[str, Any]
    agreement: Agreement


def compile_model(
    loaded: LoadedModel,
    schedule: Schedule,
    folder: Path,
    sample: Sample | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Compiled:
    """Write a model under a schedule as graphs, and run a prompt through them and through autoprune.

    Args:
        loaded: The model, in single precision on the CPU.
        schedule: The schedule.
        folder: An empty folder.
        sample: A row whose images are as many and of the size that the graphs are for; None = a made-up one.
        say: Is told what is being done.

    Raises:
        ScheduleError: the schedule cannot be one static graph.
        ModelError: the graphs do not know the model's decoder, or its vision tower cannot be exported.
        DataError: the row has no images, or other visual tokens than features.
        EvaluationError: what was compiled does not do what autoprune does; it is without facts and not to be used.
    """
    check_schedule(schedule)
    check_config(loaded.config)
    check_greedy(loaded.model.generation_config)
    schedule.check_model(loaded.config)
    decoder: Any = find_decoder(loaded.model)
    check_layers(decoder)
    shown = _asked(sample, loaded.config)
    inputs = model_inputs(loaded, [shown])
    say("exporting the vision tower")
    weights = SharedWeights(folder / "weights.bin")
    settings, features = _write_vision(loaded, inputs, folder, weights)
    visual_ids = visual_token_ids(loaded.config)
    n_visual = int(torch.isin(inputs["input_ids"], torch.tensor(visual_ids)).sum())
    if n_visual != len(features):
        raise DataError(
            f"row {shown.id} has {n_visual} visual tokens, and its images {len(features)} features",
            field="image",
            remedy="compile with a row of images alone, for a model that puts one feature in each visual token",
        )
    steps = steps_of(schedule, n_visual)
    longest = int(loaded.config.get_text_config(decoder=True).max_position_embeddings)
    compact = schedule.positions == "compact" and bool(steps)
    say("exporting the prefill")
    prefill = Prefill(loaded.model, decoder, steps, n_visual, visual_ids, compact).eval()
    cache = _write_prefill(prefill, inputs["input_ids"], features, longest, folder, weights)
    say("exporting the decode step")
    _write_decode(Decode(loaded.model, decoder, compact), cache, longest, folder, weights)
    loaded.processor.save_pretrained(folder / "processor")
    for script, name in ((run_script, "run.py"), (pixels, PIXELS_SCRIPT), (videoless, PROCESSOR_SCRIPT)):
        shutil.copyfile(str(script.__file__), folder / name)
    facts = {
        **_facts(loaded, schedule, steps, n_visual),
        "pixel_values": list(inputs[PIXELS].shape),
        "image_settings": {name: digest_of(value) for name, value in settings.items()},
        "longest_prompt": longest,
        "files": _digests(folder),
    }
    say("running a prompt through the graphs and through autoprune")
    agreement = _checked(loaded, schedule, CompiledModel(folder, torch.get_num_threads(), facts), shown)
    facts["check"] = agreement.to_dict()
    (folder / FACTS).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return Compiled(facts, agreement)


def _asked(sample: Sample | None, config: Any) -> Sample:
    """A question about the images of a row as the script of a compiled model asks: all images, then the text."""
    made = synthetic_sample(config)
    return made if sample is None else replace(sample, prompt=made.prompt, messages=(), videos=())


def _checked(loaded: LoadedModel, schedule: Schedule, compiled: CompiledModel, sample: Sample) -> Agreement:
    """What the check of a compiled model found, if it passed."""
    try:
        agreement = compare(loaded, schedule, compiled, sample)
    except (OSError, ValueError, TypeError, ImportError) as error:  # as transformers says what a processor lacks
        raise _unusable(f"does not run: {' '.join(str(error).split())[:200]}") from error
    if not agreement.passed:
        raise _unusable(f"does not do what autoprune does: {agreement}")
    return agreement


def _unusable(why: str) -> EvaluationError:
    return EvaluationError(f"the compiled model {why}", remedy="it is not to be used; please report it")


def _write_vision(
    loaded: LoadedModel, inputs: Mapping[str, Any], folder: Path, weights: SharedWeights
) -> tuple[dict[str, Any], Tensor]:
    """Write the graph of the images; what is fixed in it, and the features [N, d] of the example."""
    settings = settings_of(loaded.model, inputs)
    vision = Vision(loaded.model, settings).eval()
    example = inputs[PIXELS].float()
    try:
        with torch.no_grad():
            features: Tensor = vision(example)
        write_onnx(exported(vision, (example,)), folder / "vision.onnx", [PIXELS], ["features"], weights)
    except Exception as error:  # whatever a tower's code makes of fixed sizes, and the exporters of it
        raise ModelError(
            f"its vision tower cannot be a static graph: {' '.join(str(error).split())[:200]}",
            field="model",
            value=type(loaded.model).__name__,
            remedy="use the schedule with autoprune.apply and transformers",
        ) from error
    return settings, features


def _write_prefill(
    prefill: Prefill, ids: Tensor, features: Tensor, longest: int, folder: Path, weights: SharedWeights
) -> list[Tensor]:
    """Write the prefill as a program and as a graph; the cache of the example."""
    axis = growing("prompt", 1, prefill.n_visual + _LEAST_TEXT, longest)
    program = exported(prefill, (ids, features), (axis, None))
    torch.export.save(program, folder / PROGRAM)
    with torch.no_grad():
        cache: list[Tensor] = list(prefill(ids, features))[1:]
    write_onnx(program, folder / "prefill.onnx", ["input_ids", "features"], ["logits", *_entries(cache)], weights)
    return cache


def _write_decode(decode: Decode, cache: list[Tensor], longest: int, folder: Path, weights: SharedWeights) -> None:
    names = _entries(cache)
    past = [growing(f"past_{i // 2}", 2, 2, longest) for i in range(len(names))]
    token, position = torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.long)
    program = exported(decode, (token, position, cache), (None, None, past))
    inputs = ["token", "position", *(f"past_{name}" for name in names)]
    write_onnx(program, folder / "decode.onnx", inputs, ["logits", *names], weights)


def _entries(cache: list[Tensor]) -> list[str]:
    return [f"{kind}_{i}" for i in range(len(cache) // 2) for kind in ("key", "value")]


def _facts(loaded: LoadedModel, schedule: Schedule, steps: tuple[Step, ...], n_visual: int) -> dict[str, Any]:
    layers = loaded.config.get_text_config(decoder=True).num_hidden_layers
    return {
        "format": "autoprune.compiled",
        "version": 1,
        "model": {
            **ModelIdentity.from_config(loaded.config, loaded.name).model_dump(),
            "fingerprint": loaded.fingerprint,
        },
        "schedule": schedule.to_json_dict(),
        "schedule_key": schedule.key,
        "versions": versions(_PACKAGES),
        "visual_ids": list(visual_token_ids(loaded.config)),
        "visual_tokens": n_visual,
        "visual_tokens_of_layers": visual_alive(steps, n_visual, layers),
        "end_tokens": sorted(end_tokens(loaded.model)),
    }


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder but the facts, by its path in it."""
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != FACTS):
        with file.open("rb") as stream:
            found[file.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
