"""Second turns on a cache: in text, and with images of their own; each turn prunes what it brings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from support.rows import families_in
from support.schedules import FOR_MODES, attention, schedule
from support.turns import TurnsReference
from support.zoo import FAMILIES, LAYERS, VOCAB, WORDS, Zoo, llama, llava
from torch import Tensor
from transformers import DynamicCache

import autoprune
from autoprune.errors import PatchError


@dataclass
class Turn:
    """What one call brings."""

    inputs: dict[str, Tensor]
    visual: Tensor

    @property
    def length(self) -> int:
        return self.inputs["input_ids"].shape[1]


def other_images(turn: Turn) -> Turn:
    """The same layout with other words, and other images of the same sizes."""
    ids = turn.inputs["input_ids"]
    words = (ids - WORDS + 7) % (VOCAB - WORDS) + WORDS
    changed = {k: -v if v.is_floating_point() else v for k, v in turn.inputs.items()}
    return Turn({**changed, "input_ids": torch.where(ids < WORDS, ids, words)}, turn.visual)


def words(batch: int, length: int) -> Turn:
    ids = torch.randint(WORDS, VOCAB, (batch, length), generator=torch.Generator().manual_seed(length))
    return Turn({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, torch.zeros_like(ids, dtype=torch.bool))


def positions(model: Any, turns: list[Turn]) -> Tensor | None:
    """Three-dimensional positions [3, B, S] of a whole conversation, for models that need to be told."""
    if not hasattr(model.model, "get_rope_index"):
        return None
    ids = torch.cat([turn.inputs["input_ids"] for turn in turns], 1)
    types = [turn.inputs.get("mm_token_type_ids", torch.zeros_like(turn.inputs["input_ids"])) for turn in turns]
    grids = {
        name: torch.stack([turn.inputs[name] for turn in turns if name in turn.inputs], 1).flatten(0, 1)
        for name in turns[0].inputs
        if "grid" in name
    }  # sample by sample, one image a turn
    mask = torch.cat([turn.inputs["attention_mask"] for turn in turns], 1)
    return model.model.get_rope_index(ids, torch.cat(types, 1), **grids, attention_mask=mask)[0]


def converse(zoo: Zoo, turns: list[Turn]) -> list[Tensor]:
    """Logits of each turn."""
    cache, seen, places, answers = DynamicCache(config=zoo.model.config), None, positions(zoo.model, turns), []
    for turn in turns:
        own = turn.inputs["attention_mask"]
        start = 0 if seen is None else seen.shape[1]
        seen = own if seen is None else torch.cat([seen, own], 1)
        call = {**turn.inputs, "attention_mask": seen, "past_key_values": cache, "use_cache": True}
        if places is not None:
            call["position_ids"] = places[:, :, start : start + turn.length]
        with torch.no_grad():
            answers.append(zoo.model(**call).logits)
    return answers


def check(zoo: Zoo, turns: list[Turn], wanted: autoprune.Schedule) -> None:
    turns = [*turns, words(len(turns[0].visual), 1)]
    visual = torch.cat([turn.visual for turn in turns], 1)
    valid = torch.cat([turn.inputs["attention_mask"] for turn in turns], 1).bool()
    lengths = [turn.length for turn in turns]
    with TurnsReference(zoo.model, wanted, visual, valid, lengths[:-1]) as reference:
        expected = converse(zoo, turns)
    with autoprune.apply(zoo.model, wanted) as patch:
        got = converse(zoo, turns)
    last = max(t for t, turn in enumerate(turns) if turn.visual.any())
    held = torch.stack([(valid & ~reference.dead[i])[:, : sum(lengths[: last + 1])].sum(1) for i in zoo.unbounded])
    assert torch.equal(patch.report.kv_entries[zoo.unbounded], held)
    start = 0
    for turn, ours, theirs in zip(turns, got, expected, strict=True):
        end = start + turn.length
        alive = turn.inputs["attention_mask"].bool() & ~reference.dead[LAYERS - 1][:, start:end]
        torch.testing.assert_close(ours[alive], theirs[alive], atol=1e-4, rtol=0)
        start = end


@pytest.mark.parametrize("name", FOR_MODES)
@pytest.mark.parametrize("family", families_in("second turn"))
def test_a_second_turn_in_text(family: str, name: str) -> None:
    zoo = FAMILIES[family].build([[0], [1]])
    check(zoo, [Turn(zoo.inputs, zoo.visual), words(2, 5)], FOR_MODES[name])


@pytest.mark.parametrize("name", FOR_MODES)
@pytest.mark.parametrize("family", families_in("second turn with a new image"))
def test_a_second_turn_with_new_images(family: str, name: str) -> None:
    zoo = FAMILIES[family].build([[0], [1]])
    first = Turn(zoo.inputs, zoo.visual)
    check(zoo, [first, other_images(first)], FOR_MODES[name])


@pytest.mark.parametrize("at", ["previous", "current"])
def test_an_image_after_a_cached_turn_is_scored_with_the_cached_keys(at: str) -> None:
    """A turn of text in the cache, then the rest: the same tokens are kept as in one pass over both."""
    zoo = llava([[0]])
    # A threshold, since a share of the tokens would not see that all scores are too high.
    wanted = schedule((2, {"threshold": 0.2}, attention("text", heads="max", at=at)))
    ids, pixels = zoo.inputs["input_ids"], zoo.inputs["pixel_values"]
    more = torch.randint(10, 100, (1, 30), generator=torch.Generator().manual_seed(2))
    cache = DynamicCache(config=zoo.model.config)
    with torch.no_grad(), autoprune.apply(zoo.model, wanted) as patch:
        whole = zoo.model(input_ids=torch.cat([more, ids], 1), pixel_values=pixels).logits[:, -1]
        at_once = patch.report.kept[2][0]
        zoo.model(input_ids=more, past_key_values=cache, use_cache=True)
        second = zoo.model(input_ids=ids, pixel_values=pixels, past_key_values=cache, use_cache=True).logits[:, -1]
        later = patch.report.kept[2][0]
    assert ids.shape[1] - 15 < len(later) < ids.shape[1]
    assert at_once[30:].tolist() == later.tolist()
    torch.testing.assert_close(second, whole, atol=1e-4, rtol=0)


def test_a_cropped_cache_takes_the_same_tokens_again() -> None:
    zoo = llava([[0]])
    ids = zoo.inputs["input_ids"]
    cache = DynamicCache(config=zoo.model.config)
    with torch.no_grad(), autoprune.apply(zoo.model, FOR_MODES["by scores"]):
        expected = zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True).logits[:, -2:]
        for _ in range(2):
            cache.crop(-2)
            assert cache.get_seq_length() == cache.layers[5].get_seq_length() == ids.shape[1] - 2
            again = zoo.model(input_ids=ids[:, -2:], past_key_values=cache, use_cache=True).logits
            torch.testing.assert_close(again, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", FOR_MODES)
@pytest.mark.parametrize("plan", [[[0]], [[0], [1]]], ids=["one sample", "ragged batch"])
def test_a_cache_cropped_back_past_an_image_takes_another(plan: list[list[int]], name: str) -> None:
    """A system prompt is kept, one image is asked about, cropped away, and the next one asked about."""
    zoo = llava(plan)
    system, first, question = words(len(plan), 16), Turn(zoo.inputs, zoo.visual), words(len(plan), 4)
    second = other_images(first)

    def ask(cache: DynamicCache, turns: list[Turn]) -> Tensor:
        seen = torch.ones(len(plan), cache.get_seq_length(), dtype=torch.long)
        for turn in turns:
            seen = torch.cat([seen, turn.inputs["attention_mask"]], 1)
            call = {**turn.inputs, "attention_mask": seen, "past_key_values": cache, "use_cache": True}
            logits = zoo.model(**call).logits
        return logits

    with torch.no_grad(), autoprune.apply(zoo.model, FOR_MODES[name]) as patch:
        cache = DynamicCache(config=zoo.model.config)
        ask(cache, [system, first, question])
        cache.crop(-first.length - question.length)
        assert {layer.keys.shape[-2] for layer in cache.layers} == {16}
        again, entries = ask(cache, [second]), patch.report.kv_entries
        fresh = DynamicCache(config=zoo.model.config)
        expected = ask(fresh, [system, second])
        cache.crop(-second.length)
    ask(cache, [question])  # without the patch: what is left is as good as never pruned
    assert torch.equal(entries, patch.report.kv_entries)
    valid = second.inputs["attention_mask"].bool() & ~second.visual
    torch.testing.assert_close(again[valid], expected[valid], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", FOR_MODES)
def test_a_cache_cropped_within_an_image_holds_what_stood_before(name: str) -> None:
    """The same tokens on a cropped cache, and on the whole one with those columns masked."""
    zoo = llava([[0], [1]])
    first, more = Turn(zoo.inputs, zoo.visual), words(2, 4)
    left = int(zoo.visual[0].nonzero()[:, 0].median())  # columns
    seen, places = first.inputs["attention_mask"], torch.arange(left, left + 4).expand(2, -1)
    answers = []
    with torch.no_grad(), autoprune.apply(zoo.model, FOR_MODES[name]):
        for cropped in (True, False):
            cache = DynamicCache(config=zoo.model.config)
            zoo.model(**first.inputs, past_key_values=cache, use_cache=True)
            if cropped:
                cache.crop(left - first.length)
                mask = seen[:, :left]
            else:
                mask = seen * (torch.arange(first.length) < left)
            mask = torch.cat([mask, more.inputs["attention_mask"]], 1)
            ids = more.inputs["input_ids"]
            call = {"attention_mask": mask, "position_ids": places, "past_key_values": cache, "use_cache": True}
            answers.append(zoo.model(input_ids=ids, **call).logits)
    torch.testing.assert_close(*answers, atol=1e-5, rtol=0)


def test_kept_positions_are_those_of_the_conversation_without_its_padding() -> None:
    """Samples of a ragged batch with a cached text turn before: as each in one pass, on its own."""
    zoo = llava([[0], [1]])
    ids, pixels = zoo.inputs["input_ids"], zoo.inputs["pixel_values"]
    words_before = torch.randint(WORDS, VOCAB, (2, 6), generator=torch.Generator().manual_seed(3))
    padding = torch.tensor([[1] * 6, [0, 0, 0, 1, 1, 1]])
    mask = torch.cat([padding, zoo.inputs["attention_mask"]], 1)
    cache, wanted = DynamicCache(config=zoo.model.config), autoprune.presets.uniform(2, 0.4)
    with torch.no_grad(), autoprune.apply(zoo.model, wanted) as patch:
        zoo.model(input_ids=torch.cat([words_before, ids], 1), pixel_values=pixels, attention_mask=mask)
        whole = patch.report.kept[2]
        zoo.model(input_ids=words_before, attention_mask=padding, past_key_values=cache, use_cache=True)
        zoo.model(input_ids=ids, pixel_values=pixels, attention_mask=mask, past_key_values=cache, use_cache=True)
        turn = patch.report.kept[2]
    for before, both, later in zip((6, 3), whole, turn, strict=True):
        assert both.tolist() == [*range(before), *later.tolist()]


def test_a_cache_that_holds_no_entry_still_knows_its_length() -> None:
    """The image comes first and all of it is withdrawn before the first layer; then the cache is cropped into it."""
    model, prompt, more = llama(), torch.randn(1, 20, 64), torch.randn(1, 4, 64)
    answers = []

    def visual(ids: Tensor | None, embeds: Tensor) -> Tensor:
        return (torch.arange(embeds.shape[1]) < (16 if embeds.shape[1] == 20 else 0))[None]

    with torch.no_grad(), autoprune.apply(model, autoprune.presets.vtw(0), visual) as patch:
        for start in (8, 0):
            cache = DynamicCache(config=model.config)
            with patch.prompt(20):
                model(inputs_embeds=prompt, past_key_values=cache, use_cache=True)
            cache.crop(start - 20)
            assert cache.get_seq_length() == start
            places = torch.arange(8, 12)[None]
            call = {"position_ids": places, "past_key_values": cache, "use_cache": True}
            with patch.prompt(0):
                answers.append(model(inputs_embeds=more, **call).logits)
    torch.testing.assert_close(*answers, atol=1e-5, rtol=0)


def test_what_cannot_be_cropped_is_one_clear_error() -> None:
    zoo = llava([[0]])
    wanted = autoprune.Schedule.model_validate({**FOR_MODES["by scores"].to_json_dict(), "positions": "compact"})
    cache = DynamicCache(config=zoo.model.config)
    with torch.no_grad(), autoprune.apply(zoo.model, wanted):
        zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
        with pytest.raises(PatchError, match="cropped back past an image"):
            cache.crop(3 - zoo.inputs["input_ids"].shape[1])


@pytest.mark.parametrize("family", families_in("second turn"))
def test_text_alone_is_generated_as_by_the_dense_model(family: str) -> None:
    """A text-only prompt, and a text-only turn on the cache of an image: nothing is there to prune."""
    zoo = FAMILIES[family].build([[0]])
    prompt, later = words(1, 9).inputs, words(1, 5).inputs["input_ids"]
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    expected = zoo.model.generate(**prompt, **options)
    with autoprune.apply(zoo.model, FOR_MODES["by scores"]) as patch:
        assert torch.equal(zoo.model.generate(**prompt, **options), expected)
        assert not patch.report.active
        cache = DynamicCache(config=zoo.model.config)
        with torch.no_grad():
            zoo.model(**zoo.inputs, past_key_values=cache, use_cache=True)
        held = [layer.keys.shape[-2] for layer in cache.layers]
        ids = torch.cat([zoo.inputs["input_ids"], later], 1)
        said = zoo.model.generate(input_ids=ids, past_key_values=cache, **options)
    assert said.shape[1] == ids.shape[1] + 4
    grown = [layer.keys.shape[-2] - before for layer, before in zip(cache.layers, held, strict=True)]
    assert {grown[i] for i in zoo.unbounded} == {5 + 3}
