"""Other ways of calling generate(): turns, guidance, streams, own loops, modes that live outside of transformers."""

from __future__ import annotations

import threading

import pytest
import torch
from support.reference import MaskedReference
from support.zoo import llava
from torch import Tensor
from transformers import DynamicCache, GenerationConfig
from transformers.generation.streamers import BaseStreamer

import autoprune
from autoprune import presets
from autoprune.errors import PatchError

HIMAP = presets.himap((1, 3), (0.5, 0.25))


@pytest.mark.parametrize("by_mask", [False, True], ids=["placeholder ids", "mask tensor"])
def test_a_turn_may_be_given_alone_or_with_all_before_it(by_mask: bool) -> None:
    """Both ways generate() takes a later turn, with an image, against plain passes over the two turns."""
    zoo = llava([[0], [1]])
    rows = [
        ids[mask.bool()][None]
        for ids, mask in zip(*[zoo.inputs[k] for k in ("input_ids", "attention_mask")], strict=True)
    ]
    pixels, both = zoo.inputs["pixel_values"], torch.cat(rows, 1)
    first = {"input_ids": rows[0], "pixel_values": pixels[:1]}
    second = {"alone": rows[1], "all": both}
    answers, entries = {}, {}
    for how in ("plain", "alone", "all"):
        cache = DynamicCache(config=zoo.model.config)
        with torch.no_grad():
            with autoprune.apply(zoo.model, HIMAP):
                zoo.model(**first, past_key_values=cache, use_cache=True)
            visual = (both if how == "all" else rows[1]) == 5
            with autoprune.apply(zoo.model, HIMAP, visual if by_mask else None):
                if how == "plain":
                    answers[how] = _greedy(zoo.model, rows[1], cache, 4, pixel_values=pixels[1:])
                else:
                    answers[how] = zoo.model.generate(
                        input_ids=second[how],
                        pixel_values=pixels[1:],
                        attention_mask=torch.ones_like(both),
                        past_key_values=cache,
                        max_new_tokens=4,
                        do_sample=False,
                    )[:, -4:]
        entries[how] = [layer.keys.shape[-2] for layer in cache.layers]
    assert answers["alone"].tolist() == answers["all"].tolist() == answers["plain"].tolist()
    assert entries["alone"] == entries["all"] == entries["plain"]
    assert entries["plain"][3] == entries["plain"][0] - 24  # each turn lost 12 of its 16 visual tokens


def _greedy(model, ids: Tensor, cache: DynamicCache, steps: int, **first) -> Tensor:
    tokens = []
    for _ in range(steps):
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True, **first).logits[:, -1]
        logits[:, :10] = float("-inf")  # as the zoo's generation config has it
        first, ids = {}, logits.argmax(-1, keepdim=True)
        tokens.append(ids)
    return torch.cat(tokens, 1)


def test_guidance_by_a_negative_prompt_leaves_the_image_branch_as_it_is() -> None:
    zoo = llava([[0, 1]])
    negative = torch.randint(10, 100, (1, 4), generator=torch.Generator().manual_seed(2))
    ids, scale = zoo.inputs["input_ids"], 1.5
    with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]), torch.no_grad():
        out = zoo.model.generate(
            **zoo.inputs, max_new_tokens=1, do_sample=False, return_dict_in_generate=True, output_logits=True
        )
    with torch.no_grad():
        conditional, free = out.logits[0].log_softmax(-1), zoo.model(input_ids=negative).logits[:, -1].log_softmax(-1)
    expected = free + scale * (conditional - free)
    with autoprune.apply(zoo.model, HIMAP):
        got = zoo.model.generate(
            **zoo.inputs,
            max_new_tokens=3,
            do_sample=False,
            guidance_scale=scale,
            negative_prompt_ids=negative,
            return_dict_in_generate=True,
            output_scores=True,
            suppress_tokens=None,
        )
    torch.testing.assert_close(got.scores[0], expected, atol=1e-4, rtol=0)
    assert got.sequences.shape[1] == ids.shape[1] + 3


def test_a_streamer_in_a_thread_sees_the_same_tokens() -> None:
    zoo = llava([[0, 1]])
    expected = _reference(zoo, max_new_tokens=6)

    class Collect(BaseStreamer):
        def __init__(self) -> None:
            self.tokens: list[int] = []
            self.ended = threading.Event()

        def put(self, value: Tensor) -> None:
            self.tokens += value.reshape(-1).tolist()

        def end(self) -> None:
            self.ended.set()

    streamer = Collect()
    with autoprune.apply(zoo.model, HIMAP):
        options = {**zoo.inputs, "max_new_tokens": 6, "do_sample": False, "streamer": streamer}
        thread = threading.Thread(target=zoo.model.generate, kwargs=options)
        thread.start()
        thread.join()
    assert streamer.ended.is_set()
    assert streamer.tokens == expected[0].tolist()


def test_an_own_loop_through_custom_generate() -> None:
    zoo = llava([[0, 1]])

    def loop(model, input_ids, past_key_values, pixel_values, **_):
        return torch.cat([input_ids, _greedy(model, input_ids, past_key_values, 5, pixel_values=pixel_values)], 1)

    expected = _reference(zoo, max_new_tokens=5)
    with autoprune.apply(zoo.model, HIMAP), torch.no_grad():
        got = zoo.model.generate(**zoo.inputs, custom_generate=loop, max_new_tokens=5)
    assert torch.equal(got, expected)


def _reference(zoo, **options) -> Tensor:
    with MaskedReference(zoo.model, HIMAP, zoo.visual, zoo.inputs["attention_mask"]):
        return zoo.model.generate(**zoo.inputs, do_sample=False, **options)


def test_sampled_beams_and_returned_beams() -> None:
    zoo = llava([[0], [1]])  # one image each: early releases of transformers mix up those of a sample with two
    options = {"num_beams": 3, "num_return_sequences": 2, "do_sample": True, "max_new_tokens": 5}
    visual, valid = (t.repeat_interleave(3, 0) for t in (zoo.visual, zoo.inputs["attention_mask"]))
    with MaskedReference(zoo.model, HIMAP, visual, valid):
        torch.manual_seed(0)
        expected = zoo.model.generate(**zoo.inputs, **options)
    with autoprune.apply(zoo.model, HIMAP):
        torch.manual_seed(0)
        got = zoo.model.generate(**zoo.inputs, **options)
    assert got.shape[0] == 4
    assert torch.equal(got, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"penalty_alpha": 0.6, "top_k": 4},
        {"dola_layers": "high"},
        {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
        {"num_beams": 4, "force_words_ids": [[33]]},
    ],
    ids=["contrastive", "dola", "group beams", "constrained beams"],
)
def test_modes_that_moved_out_of_transformers_are_refused_by_it(options: dict) -> None:
    """Their loops are code of other repositories, which transformers does not run unless trusted."""
    zoo = llava([[0]])
    with autoprune.apply(zoo.model, HIMAP), pytest.raises(ValueError, match="trust_remote_code"):
        zoo.model.generate(**zoo.inputs, max_new_tokens=2, **options)


@pytest.mark.parametrize(
    "enter",
    [
        lambda model, config: model.generate_batch([[11, 12]], generation_config=config),
        lambda model, config: model.init_continuous_batching(config),
        lambda model, config: model.continuous_batching_context_manager(config).__enter__(),
    ],
    ids=["generate_batch", "init", "context manager"],
)
def test_continuous_batching_is_refused_at_every_door(enter) -> None:
    zoo = llava([[0]])
    config = GenerationConfig(eos_token_id=-1, max_new_tokens=2)
    with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="continuous batching"):
        enter(zoo.model, config)


def test_continuous_batching_by_the_name_of_its_cache() -> None:
    zoo = llava([[0]])
    with autoprune.apply(zoo.model, HIMAP), pytest.raises(PatchError, match="cache_implementation"):
        zoo.model.generate(**zoo.inputs, cache_implementation="paged", max_new_tokens=2)


def test_a_mask_that_is_too_short_for_the_conversation() -> None:
    zoo = llava([[0]])
    cache = DynamicCache(config=zoo.model.config)
    more = torch.tensor([[11, 12, 13]])
    with autoprune.apply(zoo.model, HIMAP), torch.no_grad():
        zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
        with pytest.raises(PatchError, match="column for each of 26 cached and 3 new"):
            zoo.model(input_ids=more, attention_mask=torch.ones_like(more), past_key_values=cache, use_cache=True)
