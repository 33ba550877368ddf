"""Models with a Llama or Qwen2 decoder, tiles and several images: fixed by the row that they are compiled with."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
import transformers as hf
from support.checkpoints import CHECKPOINTS
from support.checkpoints.rows import save_rows
from support.zoo.base import TEXT, Zoo, finish
from support.zoo.llava_next import llava_next

from autoprune.data.samples import load_samples
from autoprune.engines.export.check import arrays, compare
from autoprune.engines.export.folder import compile_model
from autoprune.engines.export.run_script import CompiledModel
from autoprune.errors import ModelError
from autoprune.evaluate.encoding import encode, model_inputs
from autoprune.models.loading import load_model
from autoprune.models.videoless import load_for_images
from autoprune.presets import himap

TWO_IMAGES, WIDE, TALL, WIDE_AGAIN = 2, 0, 1, 5


def llava_next_of_llama() -> Zoo:
    """LLaVA-NeXT as it is with Vicuna."""
    given = llava_next()
    config = copy.deepcopy(given.model.config)
    config.text_config = hf.LlamaConfig(**TEXT)
    return Zoo(finish(hf.LlavaNextForConditionalGeneration(config)), given.inputs)


FAMILIES = {
    "llava": CHECKPOINTS["llava"],
    "llava_next": dataclasses.replace(CHECKPOINTS["llava_next"], zoo=llava_next_of_llama),
    "llava_onevision": CHECKPOINTS["llava_onevision"],
    "internvl": CHECKPOINTS["internvl"],
}


@pytest.fixture
def opened(tmp_path):
    def call(checkpoint):
        checkpoint.save(tmp_path / "model")
        return load_model(tmp_path / "model"), load_samples(save_rows(tmp_path, "rows", seed=0))

    return call


@pytest.mark.slow
@pytest.mark.parametrize("row", [WIDE, TWO_IMAGES], ids=["one image", "two images"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_exact_with_the_images_that_it_was_compiled_for(opened, tmp_path, name, row):
    loaded, rows = opened(FAMILIES[name])
    schedule = himap(layers=(1, 3), keep=(0.5, 0.25))
    (tmp_path / "out").mkdir()
    assert compile_model(loaded, schedule, tmp_path / "out", rows[row]).agreement.passed
    if row == WIDE:
        graphs = CompiledModel(tmp_path / "out", threads=1)
        found = compare(loaded, schedule, graphs, rows[WIDE_AGAIN])  # another text
        assert found.passed, found
        if name in ("llava_next", "llava_onevision"):  # tiles by the shape of the image
            with pytest.raises(ValueError, match="compiled for"):
                graphs.prefill(arrays(model_inputs(loaded, [rows[TALL]])))


@pytest.mark.parametrize(("name", "said"), [("qwen2_5_vl", "no Llama and no Qwen2"), ("llava_next", "no Llama")])
def test_other_decoders_are_refused(opened, tmp_path, name, said):
    loaded, _ = opened(CHECKPOINTS[name])
    with pytest.raises(ModelError, match=said):
        compile_model(loaded, himap(layers=(1, 3)), tmp_path)


def test_a_vision_tower_that_no_graph_can_hold_is_refused(opened, tmp_path):
    loaded, rows = opened(CHECKPOINTS["smolvlm"])
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="its vision tower cannot be a static graph"):
        compile_model(loaded, himap(layers=(1, 3)), tmp_path / "out", rows[WIDE])


@pytest.mark.parametrize("name", ["llava", "llava_onevision", "internvl"])
def test_the_saved_processor_prepares_images_as_the_model_s_own_does(opened, tmp_path, name):
    loaded, rows = opened(CHECKPOINTS[name])
    loaded.processor.save_pretrained(tmp_path / "processor")
    saved, row = load_for_images(tmp_path / "processor"), rows[TWO_IMAGES]
    found, wanted = encode(saved, [row]), encode(loaded.processor, [row])
    assert set(found) == set(wanted)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
