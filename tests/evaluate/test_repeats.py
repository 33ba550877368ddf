"""Rows of one sample share its images: the inputs and logits of encoding every row by itself, at the price of one."""

from __future__ import annotations

import json

import pytest
import torch
from support.checkpoints import CHECKPOINTS
from support.checkpoints.rows import save_rows
from support.scenes import save_rows as save_tiny_rows
from support.versions import needs
from torch import Tensor

from autoprune.data.samples import load_samples
from autoprune.evaluate import repeats
from autoprune.evaluate.abilities import refused_criteria
from autoprune.evaluate.encoding import FEATURES, model_inputs
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.generate import generate_and_score
from autoprune.evaluate.repeats import repeated_rows
from autoprune.evaluate.towers import rows_scored_once
from autoprune.models.loading import load_model
from autoprune.runtime import record
from autoprune.schedule import Keep, Schedule, Stage, parse_criterion

CORE = ("llava", "qwen2_5_vl", "internvl")
NEED_TORCHVISION = ("mistral3",)
ROW_BY_ROW = ("mistral3",)  # its tower packs all images into one sequence
COUNTS = [3, 2, 1, 2]


def families():
    without = needs("5.23", "no image processor of this family without torchvision")
    for name in CHECKPOINTS:
        wide = [] if name in CORE else [pytest.mark.wide]
        yield pytest.param(name, marks=[*wide, without] if name in ("idefics3", "smolvlm") else wide)


def logits(model, inputs):
    positions = model._prepare_position_ids_for_generation(inputs["input_ids"], dict(inputs))
    with torch.no_grad():
        return model(**inputs, position_ids=positions).logits


@pytest.mark.parametrize("name", list(families()))
def test_inputs_and_logits_are_those_of_rows_encoded_one_by_one(name, tmp_path, monkeypatch):
    if name in NEED_TORCHVISION:
        pytest.importorskip("torchvision", exc_type=ImportError)
    loaded = load_model(CHECKPOINTS[name].save(tmp_path / "model"))
    data = load_samples(save_rows(tmp_path, "rows", seed=0))
    samples = [data[3], data[4], data[0], data[2]]  # one image, two, one, two; portrait and landscape
    encoded = []
    monkeypatch.setattr(repeats, "model_inputs", lambda *args: encoded.append(len(args[1])) or model_inputs(*args))
    rows = repeated_rows(loaded, samples, COUNTS)
    owners = [sample for sample, count in zip(samples, COUNTS, strict=True) for _ in range(count)]
    expected = model_inputs(loaded, owners)
    assert rows.inputs.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(rows.inputs[key], value) if isinstance(value, Tensor) else rows.inputs[key] == value
    assert encoded == [4]
    assert rows.visual
    shown = []
    monkeypatch.setattr(repeats, "_joined", lambda *args, own=repeats._joined: shown.append(own(*args)) or shown[-1])
    with rows.features_once(loaded.model):
        got = logits(loaded.model, rows.inputs)
    assert shown
    assert all((features is None) == (name in ROW_BY_ROW) for features in shown)
    torch.testing.assert_close(got, logits(loaded.model, rows.inputs), atol=1e-5, rtol=1e-4)
    assert not any(feature in module.__dict__ for module in loaded.model.modules() for feature in FEATURES)


def test_five_choices_encode_an_image_once(loaded, tmp_path):
    path = save_tiny_rows(tmp_path, 6, answers=None, choices=["red", "blue", "no", "yes", "left"], answer=0)
    data, seen = load_samples(path), []
    evaluator = Evaluator(loaded, data, batch_size=15)
    hook = loaded.model.model.vision_tower.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(args[0] if args else kwargs["pixel_values"])), with_kwargs=True
    )
    evaluator.prepare()
    counted = sum(seen)
    hook.remove()
    priced = 1 + 2  # one sample of each number of images, to be priced
    tried = sum(len(sample.images) for sample in list(data)[:2])  # to see whether one pass is what generate() sees
    assert counted == sum(len(sample.images) for sample in data) + priced + tried


@pytest.mark.parametrize("name", list(families()))
def test_scores_of_the_tower_are_those_of_rows_encoded_one_by_one(name, tmp_path):
    if name in NEED_TORCHVISION:
        pytest.importorskip("torchvision", exc_type=ImportError)
    loaded = load_model(CHECKPOINTS[name].save(tmp_path / "model"))
    keys = [(0, parse_criterion("encoder"))]
    if refused_criteria(loaded, load_samples(save_rows(tmp_path, "few", seed=1)), [keys[0][1]]):
        pytest.skip("its tower has no attention that could be read by token")
    data = load_samples(save_rows(tmp_path, "rows", seed=0))
    rows = repeated_rows(loaded, [data[3], data[4], data[0], data[2]], COUNTS)
    with torch.no_grad(), record(loaded.model, keys) as recording:
        loaded.model(**rows.inputs, use_cache=False)
    found = rows_scored_once(loaded.model, rows, keys).laid_out(recording.visual_mask)
    assert bool(found[keys[0]].any())
    torch.testing.assert_close(found[keys[0]], recording.scores[keys[0]], atol=1e-5, rtol=1e-4)


def test_scores_of_the_tower_are_read_once_for_five_choices(loaded, tmp_path):
    """As it encodes the images; those of a new shape are encoded once more, to see where their patches go."""
    path = save_tiny_rows(tmp_path, 6, answers=None, choices=["red", "blue", "no", "yes", "left"], answer=0)
    data, seen = load_samples(path), []
    criterion = parse_criterion("encoder")
    evaluator = Evaluator(loaded, data, batch_size=30, criteria=[criterion])
    hook = loaded.model.model.vision_tower.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(len(args[0] if args else kwargs["pixel_values"])), with_kwargs=True
    )
    evaluator.prepare()
    hook.remove()
    priced = 1 + 2  # one sample of each number of images, to be priced
    tried = sum(len(sample.images) for sample in list(data)[:2])  # to see whether one pass is what generate() sees
    probed = 1 + 2  # one sample of each number of images
    assert sum(seen) == sum(len(sample.images) for sample in data) + priced + tried + probed
    for layer in (0, 3):
        schedule = Schedule(stages=(Stage(layer=layer, keep=Keep(ratio=0.4), criterion=criterion),))
        plain = generate_and_score(loaded, data, schedule, 30)
        for one, other in zip(evaluator.evaluate(schedule), plain, strict=True):
            assert one.text == other.text
            assert one.kl == pytest.approx(other.kl, abs=2e-5)
            assert one.kl > 0


def test_what_cannot_be_told_apart_is_encoded_row_by_row(loaded, tmp_path):
    path = save_tiny_rows(tmp_path, 3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["images"], rows[2]["images"] = rows[2]["images"] + rows[0]["images"][:1], []
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    samples = list(load_samples(path))
    found = repeated_rows(loaded, samples[:2], [2, 1])
    assert [len(part["pixel_values"]) for part in found.visual] == [1, 3]
    assert repeated_rows(loaded, samples[:1], [1]).visual == ()
    assert repeats._sizes(torch.zeros(3, 2), [2, 0, 1], [8, 0, 4]) is None  # one for each sample, or for each image?
    assert repeats._sizes(torch.zeros(5, 2), [2, 1], [8, 4]) is None
