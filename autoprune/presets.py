"""Published pruning methods as schedules.

`keep` is always the share of the ORIGINAL visual tokens that is left, also where a paper states the share of the
current ones or the share removed. Layers are 0-based and mean "before this layer runs".
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from autoprune.errors import ScheduleError
from autoprune.schedule import (
    AttentionCriterion,
    Criterion,
    DiversityCriterion,
    EncoderCriterion,
    Schedule,
    UniformCriterion,
    parse_criterion,
)

PUBLISHED_DEPTH = 32
"""Decoder layers of the 7B models (Vicuna, Llama) on which the papers set their layers."""


def dense() -> Schedule:
    """No pruning: the reference."""
    return _schedule("dense", [])


def vtw(layer: int = 16) -> Schedule:
    """Visual Tokens Withdrawal (AAAI 2025, arXiv 2405.05803): all visual tokens leave before `layer`."""
    return _schedule("vtw", [(layer, 0.0, None)])


def fastv(layer: int = 2, keep: float = 0.5) -> Schedule:
    """FastV (ECCV 2024, arXiv 2403.06764): attention of the last prompt token in the layer before.

    Deviation: pruned once, at prefill; the released latency code has no KV cache and prunes again at every token.
    """
    return _schedule("fastv", [(layer, keep, AttentionCriterion(rows="last"))])


def himap(layers: Sequence[int] = (2, 8), keep: Sequence[float] = (0.5, 0.125)) -> Schedule:
    """HiMAP (CVPR 2025, arXiv 2503.13108), short answers: text→image attention, then image self-attention.

    The paper prunes half of the tokens at K1 and three quarters of the rest at K2. As in the released code, a stage
    reads the layer before it, means over heads, and lets all text after the first visual token vote, not the
    instruction alone. Deviations: pruned once, at prefill, with a KV cache (the released code has none and prunes again
    at every generated token); batches and padding.
    """
    first, second = _pairs("himap", layers, keep, exactly=2)
    return _schedule("himap", [(*first, AttentionCriterion(rows="text")), (*second, AttentionCriterion(rows="visual"))])


def himap_generative(layers: Sequence[int] = (2, 15), keep: Sequence[float] = (0.5, 0.125)) -> Schedule:
    """HiMAP (CVPR 2025, arXiv 2503.13108), captions and open-ended answers: the second stage comes at half the depth.

    Criteria and deviations as of `himap`.
    """
    return himap(layers, keep).model_copy(update={"evidence": {"preset": "himap_generative"}})


def pyramiddrop(layers: Sequence[int] = (8, 16, 24), keep: Sequence[float] = (0.5, 0.25, 0.125)) -> Schedule:
    """PyramidDrop (CVPR 2025, arXiv 2410.17247): the last instruction token's attention in the layer about to run.

    Deviation: survivors keep their original positions; the official code renumbers them at every drop.
    """
    criterion = AttentionCriterion(rows="last", at="current")
    return _schedule("pyramiddrop", [(layer, share, criterion) for layer, share in _pairs("pyramiddrop", layers, keep)])


def sparsevlm(
    layers: Sequence[int] = (3, 7, 16), keep: Sequence[float] = (300 / 576, 200 / 576, 110 / 576)
) -> Schedule:
    """SparseVLM (ICML 2025, arXiv 2410.04417): attention of the words that match the image, dropped tokens recycled.

    Layers and counts are those of its released code (version 1.5) for 192 tokens on average of 576: after layers 2, 6
    and 15. Deviations: version 1 sets the counts by the rank of the attention matrix; its recycling clusters the best
    30 % of the dropped tokens into new ones behind the others, here all of them are averaged into the kept tokens that
    they are most like (`merge`); survivors keep their original positions.
    """
    criterion = AttentionCriterion(rows="raters", reduce="mean")
    stages = [(layer, share, criterion) for layer, share in _pairs("sparsevlm", layers, keep)]
    return _schedule("sparsevlm", stages, merge="mean")


def visionzip(keep: float = 64 / 576) -> Schedule:
    """VisionZip (CVPR 2025, arXiv 2412.04467): before the decoder, what the vision tower's class token attends to.

    64 of 576 tokens, the paper's smallest setting. Deviations: one of its 64 tokens is the class token, 10 are evenly
    spaced others that take in the rest; here the rest is averaged into the kept tokens that it is most like (`merge`),
    by projected features where the paper compares keys of the tower.
    """
    return _schedule("visionzip", [(0, keep, EncoderCriterion())], merge="mean")


def divprune(keep: float = 0.098) -> Schedule:
    """DivPrune (CVPR 2025, arXiv 2503.02175): before the decoder, the tokens that are least like each other.

    The share is the authors' for LLaVA-1.5 and LLaVA-NeXT. Deviation: batches are handled, and a sample's images are
    looked at together.
    """
    return _schedule("divprune", [(0, keep, DiversityCriterion())])


def random(layer: int = 2, keep: float = 0.5, seed: int = 0) -> Schedule:
    """Control arm: a random choice of tokens."""
    return _schedule("random", [(layer, keep, parse_criterion({"name": "random", "seed": seed}))])


def uniform(layer: int = 2, keep: float = 0.5) -> Schedule:
    """Control arm: evenly spaced tokens."""
    return _schedule("uniform", [(layer, keep, UniformCriterion())])


_BUILDERS: dict[str, Callable[..., Schedule]] = {
    "dense": dense,
    "vtw": vtw,
    "fastv": fastv,
    "himap": himap,
    "himap_generative": himap_generative,
    "pyramiddrop": pyramiddrop,
    "sparsevlm": sparsevlm,
    "visionzip": visionzip,
    "divprune": divprune,
    "random": random,
    "uniform": uniform,
}
NAMES = tuple(_BUILDERS)


NEED_A_FILE = {
    "fitprune": "is worked out from data; save one with `autoprune fitprune` and name the file",
    "codebook": "needs prototypes; save them with `autoprune codebook` and name a schedule that uses them",
}
"""Published methods that are no preset, and what stands in their place."""


def for_depth(name: str, num_layers: int) -> Schedule:
    """A preset with its layers mapped from the published depth of 32 to a model of another depth, as by `mapped`.

    Both layers are noted in `evidence`.

    Raises:
        ScheduleError: unknown preset, or the model is too shallow to hold its stages.
    """
    if name not in _BUILDERS:
        raise ScheduleError("no such preset", field="preset", value=name, remedy=f"use one of {', '.join(NAMES)}")
    published = _BUILDERS[name]()
    layers = [s.layer for s in published.stages]
    found = _at_depth(published, PUBLISHED_DEPTH, num_layers, "preset", name)
    evidence = {
        "preset": name,
        "published_layers": layers,
        "published_depth": PUBLISHED_DEPTH,
        "layers": [s.layer for s in found.stages],
        "depth": num_layers,
    }
    return Schedule(stages=found.stages, evidence=evidence)


def mapped(schedule: Schedule, num_layers: int) -> Schedule:
    """A schedule of one model with its layers at the same relative depth of another one.

    Layer k of L becomes ``max(1, round(k * num_layers / L))``, at most the last one, and 0 stays 0; stages that fall on
    one layer move up.
    Where it came from is noted in `evidence`, and what was measured there is left behind.

    Args:
        schedule: What it maps; without a `model` its layers stay as they are.
        num_layers: Decoder layers of the other model.

    Raises:
        ScheduleError: the model is too shallow to hold its stages.
    """
    source = schedule.model
    depth = source.num_layers if source else num_layers
    found = _at_depth(schedule, depth, num_layers, "schedule", source.name if source else "")
    origin = {
        "model": source.name if source else None,
        "depth": depth,
        "layers": [s.layer for s in schedule.stages],
    }
    return found.model_copy(update={"model": None, "evidence": {"mapped_from": origin}})


def _at_depth(schedule: Schedule, depth: int, num_layers: int, field: str, name: str) -> Schedule:
    """The schedule with layers of `num_layers` in place of `depth`; `field` and `name` are those of an error."""
    layers: list[int] = []
    for stage in schedule.stages:
        layer = min(max(1, round(stage.layer * num_layers / depth)), num_layers - 1) if stage.layer else 0
        layers.append(max(layer, layers[-1] + 1) if layers else layer)
    if layers and layers[-1] >= num_layers:
        raise ScheduleError(
            f"{name or 'it'} needs layer {layers[-1]}, the model has layers 0 to {num_layers - 1}",
            field=field,
            value=name or None,
            remedy=f"leave this {field} out for a model this shallow",
        )
    stages = (stage.model_copy(update={"layer": layer}) for stage, layer in zip(schedule.stages, layers, strict=True))
    return schedule.model_copy(update={"stages": tuple(stages)})


def resolve(name: str, num_layers: int, folder: str | os.PathLike[str] = ".") -> Schedule:
    """The schedule that a preset's name or a path stands for; the name of a preset wins over a file of that name.

    Args:
        name: A preset, which is mapped to the model's depth, or a schedule file.
        num_layers: Decoder layers of the model.
        folder: Where a relative path starts.

    Raises:
        ScheduleError: neither a preset nor a file, a file that cannot be read, or a model too shallow for the preset.
    """
    if name in _BUILDERS:
        return for_depth(name, num_layers)
    file = Path(folder, os.path.expanduser(name))
    if not file.suffix and not os.path.exists(file):  # also of a name that is too long
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"give a schedule file, or one of {', '.join(NAMES)}"
        raise ScheduleError("no such preset or schedule file", field="schedule", value=name, remedy=hint)
    return Schedule.load(file)


def _pairs(
    name: str, layers: Sequence[int], keep: Sequence[float], exactly: int | None = None
) -> list[tuple[int, float]]:
    if len(layers) != len(keep) or (exactly and len(layers) != exactly):
        wanted = f"{exactly} values each" if exactly else "as many layers as keeps"
        raise ScheduleError(f"{name} needs {wanted}", field="layers, keep", value=(tuple(layers), tuple(keep)))
    return list(zip(layers, keep, strict=True))


def _schedule(name: str, stages: Sequence[tuple[int, float, Criterion | None]], merge: str | None = None) -> Schedule:
    entries = [
        {"layer": layer, "keep": {"ratio": keep}, "criterion": criterion, "merge": merge}
        for layer, keep, criterion in stages
    ]
    return Schedule.model_validate({"stages": entries, "evidence": {"preset": name}})
