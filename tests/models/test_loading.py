"""Loading models, their fingerprints, and prompts as inputs."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.scenes import save_rows, save_tiny, tiny_processor
from support.versions import needs

from autoprune.data.samples import load_samples
from autoprune.errors import DataError, ModelError
from autoprune.evaluate.encoding import encode
from autoprune.models.loading import load_model
from autoprune.models.options import ModelOptions

IMAGE, USER, ASSISTANT, BOS, PAD = 4, 5, 6, 1, 0


@pytest.fixture
def one(tmp_path):
    def make(**fields):
        return load_samples(save_rows(tmp_path, 3, **fields))

    return make


def test_a_cpu_computes_in_float32_unless_told_otherwise(model_folder):
    assert load_model(model_folder).model.dtype == torch.float32
    half = load_model(model_folder, ModelOptions(dtype="bfloat16", device="cpu"))
    assert half.model.dtype == torch.bfloat16
    assert not half.model.training
    assert half.fingerprint != load_model(model_folder).fingerprint


def test_the_fingerprint_is_of_content(model_folder, tmp_path):
    first = load_model(model_folder).fingerprint
    shutil.copytree(model_folder, tmp_path / "copy")
    assert load_model(tmp_path / "copy").fingerprint == first
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert load_model(tmp_path / "copy").fingerprint != first


def test_bad_models_are_one_line_with_a_remedy(model_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    pickled = tmp_path / "pickled"
    shutil.copytree(model_folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    broken = tmp_path / "broken"
    shutil.copytree(model_folder, broken)
    (broken / "config.json").write_text(json.dumps({"model_type": "nonsense"}))
    for path, options, words in [
        (tmp_path / "none", {}, "no such folder"),
        (pickled, {}, "safetensors"),
        (broken, {}, "cannot be loaded"),
        (model_folder, {"dtype": "int8"}, "model.dtype: .*int8"),
        (model_folder, {"device": "cuda:7"}, "not available"),
        (model_folder, {"device": "nonsense"}, "model.device: .*nonsense"),
        (model_folder, {"attn_implementation": "flash"}, "no such attention kernel"),
        (model_folder, {"processor": {"max_pixel": 1}}, "model.processor: .*no such setting"),
        (model_folder, {"generation": {"repetition_penality": 1.0}}, "did you mean 'repetition_penalty'"),
        (model_folder, {"device": "cpu", "device_map": "cpu"}, "so does device"),
    ]:
        with pytest.raises(ModelError, match=words) as caught:
            load_model(path, ModelOptions.of(**options))
        assert caught.value.remedy or "must be" in caught.value.message
        assert "\n" not in str(caught.value)


def test_prompts_go_through_the_chat_template_with_images_first(one):
    inputs = encode(tiny_processor(), one(prompt="what color")[0:1])
    ids = inputs["input_ids"][0].tolist()
    assert ids[:2] == [BOS, USER]
    assert ids[2:18] == [IMAGE] * 16
    assert ids[-1] == ASSISTANT
    assert len(ids) == 2 + 16 + 2 + 1


def test_marks_place_the_images(one):
    samples = one(prompt="red <image> blue", images=["0-0.png"])
    ids = encode(tiny_processor(), samples[0:1])["input_ids"][0].tolist()
    assert [ids[2], ids[3], ids[18], ids[19]] == [13, IMAGE, IMAGE, 14 + 1]


def test_a_template_that_writes_the_first_token_gets_no_second_one(one):
    processor = tiny_processor()
    processor.chat_template = "{{ bos_token }} " + processor.chat_template
    ids = encode(processor, one(prompt="what")[0:2])["input_ids"]
    assert (ids == BOS).sum(1).tolist() == [1, 1]


def test_padding_is_on_the_left(one):
    samples = one()
    inputs = encode(tiny_processor(), [samples[0], samples[2]])
    lengths = inputs["attention_mask"].sum(1)
    assert lengths[0] != lengths[1]
    assert inputs["attention_mask"][:, -1].tolist() == [1, 1]
    assert (inputs["input_ids"][inputs["attention_mask"] == 0] == PAD).all()
    assert len(inputs["pixel_values"]) == 3


@needs("5.23", "the processor does not compare images with placeholders; the model does")
def test_the_processors_complaint_becomes_a_data_error(one, monkeypatch):
    processor = tiny_processor()
    monkeypatch.setattr(processor, "chat_template", "{{ messages[0]['content'][-1]['text'] }}")
    with pytest.raises(DataError, match="processor refuses"):
        encode(processor, one()[0:1])


def test_a_saved_model_loads_from_a_string_path(tmp_path):
    folder = save_tiny(tmp_path / "m", layers=2)
    loaded = load_model(str(folder))
    assert loaded.name == str(folder)
    assert loaded.config.text_config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda config, weights: weights.pop(next(k for k in weights if "layers.0.mlp.up" in k)), "1 weights of the"),
        (lambda config, weights: config["text_config"].update(num_hidden_layers=9), "of the model are not in its"),
        (lambda config, weights: config["text_config"].update(num_hidden_layers=1), "in its files are not of the"),
        (lambda config, weights: config["text_config"].update(intermediate_size=8), "another shape than config.json"),
    ],
    ids=["a layer's weight is gone", "more layers", "fewer layers", "narrower layers"],
)
def test_weights_that_are_not_those_of_the_config_are_refused(model_folder, tmp_path, damage, said):
    """transformers fills what is missing with random numbers, and says so in a log only."""
    folder = tmp_path / "copy"
    shutil.copytree(model_folder, folder)
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    damage(config, weights)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=said) as raised:
        load_model(folder)
    assert raised.value.field == "model.path"


def test_a_damaged_weight_file_is_one_line(model_folder, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(model_folder, folder)
    file = folder / "model.safetensors"
    for content in (file.read_bytes()[:1000], b"\xff" * 1000, b""):
        file.write_bytes(content)
        with pytest.raises(ModelError, match="cannot be loaded"):
            load_model(folder)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("model.safetensors", b"", "header too small"),
        ("model.safetensors", b"\xff" * 4000, "header too large"),
        ("tokenizer.json", b"\xff" * 4000, "cannot be loaded"),
        ("tokenizer_config.json", b"[1]", "cannot be loaded"),
        ("processor_config.json", b'{"image_processor": 3}', "cannot be loaded"),
        ("generation_config.json", b"\xff" * 4000, "generation_config.json is not UTF-8 text"),
        ("generation_config.json", b'{"eos_token_id": "end"}', "eos_token_id: must be the number of a token"),
    ],
)
def test_damaged_files_are_one_line(model_folder, tmp_path, name, content, words):
    shutil.copytree(model_folder, tmp_path / "damaged")
    (tmp_path / "damaged" / name).write_bytes(content)
    with pytest.raises(ModelError, match=words) as caught:
        load_model(tmp_path / "damaged")
    assert "\n" not in str(caught.value)


def test_a_template_that_fails_is_an_error_of_the_data(one):
    processor = tiny_processor(chat_template="{{ 1 / 0 }}")
    with pytest.raises(DataError, match="chat template refuses it: division by zero"):
        encode(processor, one()[0:1])
