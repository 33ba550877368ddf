"""The graphs on ONNX Runtime, and the torch.export program, against autoprune on transformers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from autoprune.data.images import ImageSource
from autoprune.engines.export.check import arrays, compare
from autoprune.engines.export.folder import PROGRAM, compile_model
from autoprune.engines.export.graphs import exported, growing, write_onnx
from autoprune.engines.export.run_script import CompiledModel, digest_of
from autoprune.engines.export.vision import settings_of
from autoprune.engines.export.weights import SharedWeights
from autoprune.errors import ModelError
from autoprune.evaluate.encoding import model_inputs
from autoprune.runtime import apply
from autoprune.runtime.replay import shadowed
from autoprune.schedule import Schedule


def stage(layer: int, keep: float, name: str = "attention", **options: object) -> dict[str, object]:
    return {"layer": layer, "keep": {"ratio": keep}, "criterion": {"name": name, **options}}


ROWS = [stage(2, 0.6, rows="text"), stage(5, 0.3, rows="visual"), stage(7, 0.1, rows="last")]
SCHEDULES = {
    "study": None,  # the schedule that the study found: diversity, merging, and words that match the image
    "rows": {"stages": [*ROWS, {"layer": 10, "keep": {"ratio": 0.0}}]},
    "all": {"stages": [stage(1, 0.5, rows="all", normalize="causal"), stage(4, 0.2, rows="text", combine="visual")]},
    "layer itself": {"stages": [stage(3, 0.4, rows="last", at="current"), stage(8, 0.1, rows="last", at="current")]},
    "withdrawal": {"stages": [{"layer": 8, "keep": {"ratio": 0.0}}]},
    "uniform": {"stages": [stage(0, 1 / 3, "uniform"), stage(6, 0.1, "uniform")]},
    "random": {"stages": [stage(0, 0.5, "random", seed=5), stage(6, 0.25, "random", seed=5)]},
    "compact": {"stages": [stage(0, 1 / 3, "diversity"), stage(4, 0.1, rows="text")], "positions": "compact"},
    "dense": {"stages": []},
}


@pytest.fixture(scope="session")
def compiled(digits, digits_folder, tmp_path_factory):
    """Compiles a schedule of the table, once."""
    made = {}

    def get(name):
        if name not in made:
            given = SCHEDULES[name]
            file = digits_folder / "schedule.json"
            schedule = Schedule.load(file) if given is None else Schedule.model_validate(given)
            folder = tmp_path_factory.mktemp("compiled")
            made[name] = (schedule, folder, compile_model(digits, schedule, folder))
        return made[name]

    return get


def differences(digits, questions, schedule, folder, count):
    graphs = CompiledModel(folder, threads=1)
    return [compare(digits, schedule, graphs, row) for row in questions[:count]]


def test_the_graphs_do_what_autoprune_does(digits, questions, compiled):
    schedule, folder, result = compiled("rows")
    assert result.agreement.passed
    for found in differences(digits, questions, schedule, folder, 4):
        assert (found.same_inputs, found.same_tokens, found.same_lengths) == (True, True, True)
        assert found.max_logit_difference <= 1e-4


@pytest.mark.slow
@pytest.mark.timeout(900)  # a schedule is compiled, and two models answer 64 rows
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_graphs_do_what_autoprune_does_on_64_rows(digits, questions, compiled, name, record_property):
    schedule, folder, _ = compiled(name)
    found = differences(digits, questions, schedule, folder, 64)
    record_property("largest", max(one.max_logit_difference for one in found))
    record_property("same", sum(one.same_tokens for one in found))
    assert len(found) == 64
    assert all(one.same_inputs and one.same_tokens and one.same_lengths for one in found)
    assert max(one.max_logit_difference for one in found) <= 1e-4


def test_the_program_takes_any_text_and_gives_what_autoprune_gives(digits, questions, compiled):
    schedule, folder, _ = compiled("rows")
    program = torch.export.load(folder / PROGRAM).module()
    graphs = CompiledModel(folder, threads=1)
    lengths = set()
    for row in questions[:4]:
        inputs = model_inputs(digits, [row])
        lengths.add(inputs["input_ids"].shape[1])
        (features,) = graphs._vision.run(None, {"pixel_values": inputs["pixel_values"].numpy()})
        with torch.no_grad(), apply(digits.model, schedule):
            logits, *_ = program(inputs["input_ids"], torch.from_numpy(features))
            wanted = digits.model(**inputs).logits[:, -1]
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)
    assert len(lengths) > 1


def test_every_layer_caches_its_own_survivors(digits, questions, compiled):
    _, folder, result = compiled("rows")
    graphs = CompiledModel(folder, threads=1)
    inputs = arrays(model_inputs(digits, [questions[0]]))
    text = inputs["input_ids"].shape[1] - 144
    _, cache = graphs.prefill(inputs)
    kept = [144] * 2 + [86] * 3 + [43] * 2 + [14] * 3 + [0] * 2
    assert result.facts["visual_tokens_of_layers"] == kept
    assert [cache[f"key_{i}"].shape[2] for i in range(12)] == [text + n for n in kept]


def test_the_facts_name_schedule_model_versions_and_files(digits, compiled):
    schedule, folder, _ = compiled("rows")
    facts = json.loads((folder / "compiled.json").read_text())
    assert facts["schedule_key"] == schedule.key
    assert Schedule.model_validate(facts["schedule"]).key == schedule.key
    assert facts["model"]["fingerprint"] == digits.fingerprint
    assert {"autoprune", "torch", "transformers", "onnx", "onnxruntime", "onnxscript"} <= set(facts["versions"])
    assert facts["visual_tokens"] == 144
    assert facts["check"]["passed"]
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} - {"compiled.json"}
    assert set(facts["files"]) == found
    for name, digest in facts["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_prefill_and_decode_share_their_weights(digits, compiled):
    _, folder, _ = compiled("rows")
    held = sum(parameter.numel() * 4 for parameter in set(digits.model.parameters()))
    assert (folder / "weights.bin").stat().st_size < 1.2 * held
    assert all((folder / f"{graph}.onnx").stat().st_size < 0.2 * held for graph in ("vision", "prefill", "decode"))


def run(folder, *arguments):
    """The script, where neither autoprune nor torch can be imported."""
    hidden = "import sys, runpy; sys.modules.update(autoprune=None, torch=None); sys.argv = sys.argv[1:]"
    code = f"{hidden}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, folder / "run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder.parent, timeout=120)


def test_the_script_answers_without_autoprune_and_torch(digits, questions, digits_folder, compiled):
    schedule, folder, _ = compiled("rows")
    row = questions[0]
    done = run(folder, row.prompt, row.images[0].path)
    assert done.returncode == 0, done.stderr
    with apply(digits.model, schedule):
        inputs = model_inputs(digits, [row])
        tokens = digits.model.generate(**inputs, max_new_tokens=16)[0, inputs["input_ids"].shape[1] :]
    assert done.stdout.strip() == digits.processor.decode(tokens, skip_special_tokens=True).strip()


def test_the_script_refuses_prompts_of_another_shape(digits, questions, compiled):
    _, folder, _ = compiled("rows")
    graphs = CompiledModel(folder, threads=1)
    inputs = arrays(model_inputs(digits, [questions[0]]))
    ids = inputs["input_ids"]
    for changed, said in (
        ({"pixel_values": np.concatenate([inputs["pixel_values"]] * 2)}, "pixel_values"),
        ({"input_ids": np.delete(ids, np.flatnonzero(ids[0] == 4)[0], 1)}, "visual tokens = 144, this prompt has 143"),
        ({"input_ids": np.concatenate([ids, ids])}, "rows in a batch"),
        ({"input_ids": np.roll(ids, -int(np.flatnonzero(ids[0] == 4)[-1]) - 1, 1)}, "ends with an image"),
        ({"attention_mask": np.arange(ids.shape[1])[None] > 0}, "hides tokens"),
        ({"input_ids": np.pad(ids, ((0, 0), (500, 0)), constant_values=7)}, "at most 512 tokens"),
    ):
        with pytest.raises(ValueError, match=said):
            graphs.prefill({**inputs, **changed})


def test_the_script_reads_images_as_autoprune_does(compiled, tmp_path):
    _, folder, _ = compiled("rows")
    graphs = CompiledModel(folder, threads=1)
    drawn = Image.radial_gradient("L").resize((40, 24))
    turned = drawn.getexif()
    turned[0x0112] = 6  # a camera that stood upright
    drawn.save(tmp_path / "turned.png", exif=turned)
    clear = drawn.convert("RGBA")
    clear.putalpha(drawn)
    clear.save(tmp_path / "clear.png")
    drawn.convert("I").point(lambda value: value * 200).convert("I;16").save(tmp_path / "deep.png")
    for name in ("turned", "clear", "deep"):
        file = tmp_path / f"{name}.png"
        assert graphs.image(file).tobytes() == ImageSource(file).open().tobytes()
    assert graphs.image(tmp_path / "turned.png").size == (24, 40)
    assert min(graphs.image(tmp_path / "clear.png").getpixel((20, 12))) > 240  # dark at its centre, and clear there


def test_the_script_says_in_one_line_what_is_wrong_with_a_file(compiled, tmp_path):
    _, folder, _ = compiled("rows")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for name, said in (("missing.png", "No such file"), ("broken.png", "is no image")):
        done = run(folder, "What is it?", tmp_path / name)
        (line,) = done.stderr.strip().splitlines()
        assert (done.returncode, line[:6]) == (2, "error:")
        assert said in line
        assert name in line


def test_graphs_that_failed_their_check_are_not_loaded(compiled, tmp_path):
    _, folder, _ = compiled("rows")
    facts = json.loads((folder / "compiled.json").read_text())
    (tmp_path / "compiled.json").write_text(json.dumps({**facts, "check": {**facts["check"], "passed": False}}))
    with pytest.raises(ValueError, match="did not do what autoprune does"):
        CompiledModel(tmp_path)


@pytest.mark.parametrize(("setting", "value"), [("repetition_penalty", 1.2), ("suppress_tokens", [7])])
def test_a_model_that_changes_its_logits_is_refused(digits, tmp_path, monkeypatch, setting, value):
    monkeypatch.setattr(digits.model.generation_config, setting, value)
    with pytest.raises(ModelError, match=setting):
        compile_model(digits, Schedule(), tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_tower_that_reads_more_than_pixels_and_sizes_is_refused():
    class Two:
        def get_image_features(self, pixel_values, other_values=None): ...

    pixels = torch.zeros(1, 3, 2, 2)
    with pytest.raises(ModelError, match="other_values"):
        settings_of(Two(), {"pixel_values": pixels, "other_values": pixels})
    assert digest_of(np.array([0.25])) != digest_of(np.array([0.5]))


class Order(nn.Module):
    """Best first, equals in their order."""

    def forward(self, scores):
        return scores.argsort(dim=1, descending=True, stable=True), scores.argmax(1)


@pytest.mark.parametrize("length", [7, 144, 2880])
def test_onnx_runtime_breaks_ties_as_torch_does(tmp_path, length):
    example = torch.zeros(1, length)
    program = exported(Order(), (example,), (growing("n", 1, 2, 4096),))
    write_onnx(program, tmp_path / "order.onnx", ["scores"], ["order", "best"], SharedWeights(tmp_path / "weights.bin"))
    session = onnxruntime.InferenceSession(str(tmp_path / "order.onnx"), providers=["CPUExecutionProvider"])
    for seed, values in enumerate((1, 2, 5, length)):
        scores = torch.randint(values, (1, length), generator=torch.Generator().manual_seed(seed)).float()
        order, best = session.run(None, {"scores": scores.numpy()})
        wanted, first = Order()(scores)
        assert order.tolist() == wanted.tolist()
        assert best.tolist() == first.tolist()


@pytest.mark.slow
@pytest.mark.timeout(900)  # a schedule is compiled
def test_of_tokens_that_are_all_alike_the_earlier_ones_stay(digits, questions, compiled):
    schedule, folder, _ = compiled("study")
    graphs = CompiledModel(folder, threads=1)
    inputs = model_inputs(digits, [questions[0]])
    alike = torch.linspace(-1, 1, 128).expand(144, 128).contiguous()
    _, cache = graphs._ran(graphs._prefill, {"input_ids": inputs["input_ids"].numpy(), "features": alike.numpy()})
    inner = digits.model.model
    encoded = inner.get_image_features(inputs["pixel_values"])
    encoded.pooler_output = (alike,)
    with (
        torch.no_grad(),
        shadowed(inner, "get_image_features", lambda *given, **options: encoded),
        apply(digits.model, schedule),
    ):
        wanted = digits.model(**inputs, use_cache=True).past_key_values
    for i in range(12):
        np.testing.assert_allclose(cache[f"key_{i}"], wanted.layers[i].keys.numpy(), atol=1e-4)
