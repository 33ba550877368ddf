"""Greedy answers: by the model's own generate(), and rows of several batches decoded on from joined caches."""

from __future__ import annotations

import pytest
import torch
from support.scenes import save_rows, tiny_model
from support.zoo import FAMILIES
from torch.nn.functional import pad
from transformers import DynamicCache

import autoprune
from autoprune import presets
from autoprune.data.samples import load_samples
from autoprune.errors import ModelError
from autoprune.evaluate.encoding import encode
from autoprune.evaluate.greedy import continue_greedy, generate_greedy, join_caches
from autoprune.schedule import Schedule

MASS = {"layer": 2, "keep": {"mass": 0.6}, "criterion": {"name": "attention", "rows": "visual"}}


@pytest.fixture(scope="module")
def prompts(loaded, tmp_path_factory):
    """Prompts of one sample each: two of the same length, one with another length and two images."""
    folder = tmp_path_factory.mktemp("same")
    data = load_samples(save_rows(folder, 3, prompt="what color is red"))
    return [encode(loaded.processor, [sample]) for sample in data]


@pytest.mark.parametrize(
    "schedule", [presets.vtw(0), presets.vtw(3), presets.fastv(2, 0.4), Schedule(stages=[MASS]), Schedule()]
)
@pytest.mark.parametrize("rows", [(0, 1), (0, 2), (2, 1, 0)])
def test_rows_of_joined_caches_decode_as_alone(prompts, schedule, rows):
    model = tiny_model(scale=0.3)
    chosen = [prompts[row] for row in rows]
    lengths = [inputs["input_ids"].shape[1] for inputs in chosen]

    def prefill(inputs):
        cache = DynamicCache(config=model.config.text_config)
        with torch.no_grad():
            logits = model(**inputs, past_key_values=cache, use_cache=True).logits
        return cache, logits[:, -1].argmax(-1)

    def decode(cache, mask, positions, tokens):
        answers = continue_greedy(model, cache, mask, positions, tokens[:, None].tolist(), 6, frozenset())
        mask, last = pad(mask, (0, 6), value=1), torch.tensor([answer[-1:] for answer in answers])
        with torch.no_grad():
            call = {"attention_mask": mask, "position_ids": positions + 5, "past_key_values": cache}
            return answers, model(input_ids=last, **call).logits

    with autoprune.apply(model, schedule):
        alone, logits = [], []
        for inputs, length in zip(chosen, lengths, strict=True):
            cache, token = prefill(inputs)
            answers, one = decode(cache, inputs["attention_mask"], torch.tensor([[length]]), token)
            alone += answers
            logits.append(one)
        filled = [prefill(inputs) for inputs in chosen]
        entries = {cache.layers[-1].keys.shape[2] for cache, _ in filled}
        joined = join_caches([cache for cache, _ in filled])
        masks = [
            pad(inputs["attention_mask"], (max(lengths) - n, 0)) for inputs, n in zip(chosen, lengths, strict=True)
        ]
        positions = torch.tensor(lengths)[:, None]
        together, all_logits = decode(joined, torch.cat(masks), positions, torch.cat([token for _, token in filled]))
    assert together == alone
    torch.testing.assert_close(all_logits, torch.cat(logits), atol=1e-4, rtol=0)
    if schedule.stages and schedule.stages[0].keep.kind == "mass":
        assert len(entries) > 1  # the rows differ in what they hold, or the test shows nothing


def test_a_generate_that_cannot_be_followed_is_one_error() -> None:
    zoo = FAMILIES["llava"].build()
    zoo.model.generate = lambda input_ids, **_: input_ids
    with pytest.raises(ModelError, match="runs no logits processors"):
        generate_greedy(zoo.model, zoo.inputs, 2, 0)


def test_a_generate_that_drops_logits_processors_is_followed_and_left_as_it_was() -> None:
    zoo = FAMILIES["janus"].build()
    before = set(zoo.model.__dict__)
    answers = generate_greedy(zoo.model, zoo.inputs, 3, 0)
    assert [len(row) for row in answers.log_probabilities] == [len(row) for row in answers.tokens] == [3, 3]
    assert set(zoo.model.__dict__) == before
