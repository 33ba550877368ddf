"""The end-to-end price of rows: tower and projector as the operation counter sees them in a run of the whole model."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from support.flops import count_flops, countable_attention
from support.zoo import FAMILIES, IMAGE

from autoprune import presets
from autoprune.evaluate import vision
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.evaluator import Evaluator
from autoprune.evaluate.results import summarise
from autoprune.evaluate.vision import VisionCounter

PATCH = 4


def test_end_to_end_is_what_the_model_computes(loaded, data):
    """Dense and withdrawn, row by row, one image or two."""
    results = Evaluator(loaded, data, batch_size=5, max_new_tokens=1).evaluate(presets.vtw(0))
    for sample, result in zip(data, results, strict=True):
        inputs = encode(loaded.processor, [sample])
        with countable_attention(loaded.model, "eager"):
            counted = count_flops(lambda inputs=inputs: loaded.model(**inputs, logits_to_keep=1))
        assert counted == result.flops_end_to_end_dense
        assert counted - (result.flops_dense - result.flops) == result.flops_end_to_end


def test_without_a_count_there_is_no_figure(loaded, data, monkeypatch):
    monkeypatch.setattr(VisionCounter, "of", lambda self, sample: None)
    summary = summarise(Evaluator(loaded, data, batch_size=5, max_new_tokens=1).evaluate(presets.vtw(2)))
    assert summary.flops_ratio_end_to_end is None
    assert summary.flops_ratio < 1


def test_the_price_follows_the_sizes_of_the_images_and_each_is_counted_once(monkeypatch):
    """A tower with windows, whose patches are as many as the image is large."""
    model = FAMILIES["qwen2_5_vl"].build().model
    encoded, counted = [], []

    def inputs_of(loaded, samples):
        encoded.append(samples[0])
        grids = torch.tensor([[1, h // PATCH, w // PATCH] for w, h in (i.size for i in samples[0].images)])
        tokens = grids.prod(1) // 4
        ids = torch.tensor([[9, *[IMAGE] * int(tokens.sum()), 9]])
        pixels = torch.zeros(int(grids.prod(1).sum()), 3 * 2 * PATCH**2)
        return {"input_ids": ids, "attention_mask": ids, "pixel_values": pixels, "image_grid_thw": grids}

    def counting(model, inputs):
        counted.append(count_flops(lambda: model.get_image_features(inputs["pixel_values"], inputs["image_grid_thw"])))
        found = real(model, inputs)
        assert found == counted[-1]
        return found

    real = vision.vision_flops
    monkeypatch.setattr(vision, "model_inputs", inputs_of)
    monkeypatch.setattr(vision, "vision_flops", counting)
    counter = VisionCounter(SimpleNamespace(model=model, processor=None))
    with countable_attention(model, "eager"):
        tall, wide, one, two = (
            counter.of(_row(*sizes)) for sizes in ([(32, 64)], [(64, 32)], [(32, 32)], [(32, 32), (32, 32)])
        )
        again = counter.of(_row((32, 64)))
    assert two == 2 * one > 0
    assert 2 * one < tall == wide == again  # of the quadratic part there is more than twice as much
    assert len(encoded) == len(counted) == 4
    assert counter.of(_row()) == 0


def _row(*sizes: tuple[int, int]) -> SimpleNamespace:
    return SimpleNamespace(images=[SimpleNamespace(size=size) for size in sizes], videos=(), is_text_only=not sizes)
