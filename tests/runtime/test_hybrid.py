"""Decoders with recurrent layers: a pruned batch answers as each sample alone, physically shortened."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from support.compact import CompactReference
from support.reference import MaskedReference
from support.rows import absent
from support.schedules import WITHDRAW, attention, schedule
from support.versions import needs
from support.zoo import HYBRIDS, VOCAB, WORDS, Zoo, llava
from support.zoo.lfm2_vl import lfm2_vl
from torch import Tensor
from transformers import DynamicCache

import autoprune
from autoprune import Schedule, presets
from autoprune.errors import ModelError, PatchError

# Layers 1 and 4 have attention, the others are recurrent.
SCHEDULES = {
    "withdraw@0": presets.vtw(0),
    "withdraw@3": presets.vtw(3),
    "withdraw@5": presets.vtw(5),
    "previous": schedule(
        (0, {"ratio": 0.8}, {"name": "uniform"}),
        (2, {"ratio": 0.5}, attention("text")),
        (5, {"count": 2}, attention("visual", heads="max")),
    ),
    "current": schedule(
        (1, {"mass": 0.9}, attention("last", at="current")),
        (4, {"ratio": 0.3}, attention("all", at="current", normalize="causal")),
        (5, WITHDRAW, None),
    ),
    "no scores": schedule(
        (1, {"ratio": 0.6}, {"name": "random", "seed": 3}), (3, {"ratio": 0.3}, {"name": "diversity"})
    ),
}
EVERYTHING = schedule(
    (0, {"count": 10_000}, {"name": "diversity"}), (2, {"count": 10_000}, attention("text")), (3, {"ratio": 1.0}, None)
)
TOLERANCE = {"atol": 1e-4, "rtol": 0}


CORE = ("lfm2_vl", "qwen3_5")
DISTINCT = (*CORE, "qwen3_5_moe")
"""Families whose decoders differ from each other."""


@cache
def built(family: str, padded: bool = True) -> Zoo:
    """The family's batch; or with words in place of padding, so that what fills it up are visual tokens."""
    zoo = HYBRIDS[family].build()
    ids, mask = zoo.inputs["input_ids"], zoo.inputs["attention_mask"]
    if not padded:
        words = torch.arange(ids.numel()).view_as(ids) % (VOCAB - WORDS) + WORDS
        zoo.inputs |= {"input_ids": torch.where(mask.bool(), ids, words), "attention_mask": torch.ones_like(mask)}
    return zoo


def answer(zoo: Zoo, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the prefill, greedily generated ids, and their logits."""
    with torch.no_grad():
        logits = zoo.model(**zoo.inputs).logits
        options = {"do_sample": False, "return_dict_in_generate": True, "output_logits": True, **options}
        out = zoo.model.generate(**zoo.inputs, max_new_tokens=6, **options)
    return logits, out.sequences, torch.stack(out.logits, 1)


def check(zoo: Zoo, wanted: Schedule, got: tuple[Tensor, ...], expected: tuple[Tensor, ...], dead: Tensor) -> None:
    alive = zoo.inputs["attention_mask"].bool() & ~dead
    torch.testing.assert_close(got[0][alive], expected[0][alive], **TOLERANCE)
    torch.testing.assert_close(got[2], expected[2], **TOLERANCE)
    assert torch.equal(got[1], expected[1])


def marks(family: str) -> list[pytest.MarkDecorator]:
    missing = [pytest.mark.skip(reason=f"{family} is not in the installed transformers")] if absent(family) else []
    return missing if family in CORE else [*missing, pytest.mark.wide]


EVERY = [pytest.param(family, marks=marks(family)) for family in HYBRIDS]
CASES = [
    pytest.param((family, name, padded), id=f"{family}-{name}-{'padded' if padded else 'full'}", marks=marks(family))
    for padded in (True, False)
    for family in (HYBRIDS if padded else DISTINCT)
    for name in SCHEDULES
]


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Zoo, Schedule, CompactReference, tuple[Tensor, ...]]:
    family, name, padded = request.param
    zoo = built(family, padded)
    with CompactReference(zoo.model, SCHEDULES[name], zoo.visual, zoo.inputs["attention_mask"]) as reference:
        return zoo, SCHEDULES[name], reference, answer(zoo)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_equals_samples_that_are_really_shorter(case: Any, kernel: str) -> None:
    zoo, wanted, reference, expected = case
    zoo.model.set_attn_implementation(kernel)
    with autoprune.apply(zoo.model, wanted) as patch:
        got = answer(zoo)
        report = patch.report
    valid = zoo.inputs["attention_mask"].bool()
    assert torch.equal(report.tokens, torch.stack([(valid & ~reference.dead[i]).sum(1) for i in range(6)]))
    check(zoo, wanted, got, expected, reference.dead[5])


@pytest.mark.parametrize("family", EVERY)
def test_without_cache(family: str) -> None:
    zoo, wanted = built(family), SCHEDULES["previous"]
    with CompactReference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]) as reference:
        expected = answer(zoo)
    with autoprune.apply(zoo.model, wanted):
        check(zoo, wanted, answer(zoo, use_cache=False), expected, reference.dead[5])


@pytest.mark.parametrize("family", EVERY)
def test_keeping_everything_is_bit_identical(family: str) -> None:
    zoo = built(family)
    dense = answer(zoo)
    with autoprune.apply(zoo.model, EVERYTHING) as patch:
        got = answer(zoo)
    assert all(torch.equal(one, other) for one, other in zip(got, dense, strict=True))
    assert patch.report.active


def test_both_references_agree_where_both_apply() -> None:
    zoo, wanted = llava(), presets.himap((2, 4), (0.5, 0.2))
    with CompactReference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]):
        compact = answer(zoo)
    with MaskedReference(zoo.model, wanted, zoo.visual, zoo.inputs["attention_mask"]) as masked:
        check(zoo, wanted, answer(zoo), compact, masked.dead[5])


@pytest.mark.parametrize("family", EVERY)
def test_beams_are_those_without_cache(family: str) -> None:
    zoo = HYBRIDS[family].build(plan=[[0], [1]])
    with autoprune.apply(zoo.model, SCHEDULES["previous"]), torch.no_grad():
        found = [
            zoo.model.generate(**zoo.inputs, max_new_tokens=5, num_beams=3, do_sample=False, use_cache=cached)
            for cached in (True, False)
        ]
    assert torch.equal(*found)


@needs("5.23", "recurrent layers forget their state when several tokens follow, pruned or not")
class TestSecondTurn:
    """Turns on one cache, each pruned by withdrawal, answer as one prompt that brings all of them."""

    @staticmethod
    def logits(zoo: Zoo, turns: list[dict[str, Tensor]]) -> Tensor:
        """Logits [B, S, V] of all turns."""
        cache, seen, out = DynamicCache(config=zoo.model.config.get_text_config()), 0, []
        whole = {
            k: torch.cat([turn[k] for turn in turns], 1)
            for k in turns[0]
            if turns[0][k].shape == turns[0]["input_ids"].shape
        }
        places = None
        if hasattr(zoo.model.model, "get_rope_index"):
            grids = torch.cat([turn["image_grid_thw"] for turn in turns if "image_grid_thw" in turn])
            places = zoo.model.model.get_rope_index(
                whole["input_ids"],
                whole["mm_token_type_ids"],
                image_grid_thw=grids,
                attention_mask=whole["attention_mask"],
            )[0]
        with autoprune.apply(zoo.model, SCHEDULES["withdraw@3"]), torch.no_grad():
            for turn in turns:
                end = seen + turn["input_ids"].shape[1]
                call = {**turn, "attention_mask": whole["attention_mask"][:, :end], "past_key_values": cache}
                call |= {} if places is None else {"position_ids": places[..., seen:end]}
                out.append(zoo.model(**call, use_cache=True).logits)
                seen = end
        return torch.cat(out, 1)

    @pytest.mark.parametrize("family", DISTINCT)
    def test_words_read_on_from_the_shortened_state(self, family: str) -> None:
        zoo = built(family)
        whole = zoo.inputs
        first = {k: v[:, :-4] if v.shape == whole["input_ids"].shape else v for k, v in whole.items()}
        words = {k: v[:, -4:] for k, v in whole.items() if v.shape == whole["input_ids"].shape}
        got, expected = self.logits(zoo, [first, words]), self.logits(zoo, [whole])
        torch.testing.assert_close(got[:, -4:], expected[:, -4:], **TOLERANCE)

    @pytest.mark.parametrize("family", DISTINCT)
    def test_another_image(self, family: str) -> None:
        zoo = HYBRIDS[family].build(plan=[[0, 1]])
        whole, shape = zoo.inputs, zoo.inputs["input_ids"].shape
        cut = int(zoo.visual[0].int().diff().eq(-1).nonzero()[0]) + 2  # a word after the first image
        per_image = whole["image_grid_thw"].prod(1).tolist() if "image_grid_thw" in whole else [1, 1]
        turns = [
            {
                k: v[:, [slice(cut), slice(cut, None)][t]]
                if v.shape == shape
                else v.split(per_image if len(v) == sum(per_image) else [1, 1])[t]
                for k, v in whole.items()
            }
            for t in range(2)
        ]
        got, expected = self.logits(zoo, turns), self.logits(zoo, [whole])
        alive = ~zoo.visual
        torch.testing.assert_close(got[alive], expected[alive], **TOLERANCE)

    def test_ragged_images_in_a_later_turn_are_refused(self) -> None:
        zoo = lfm2_vl(plan=[[0], [1]])
        with pytest.raises(PatchError, match="one sample at a time"):
            self.logits(zoo, [zoo.inputs, zoo.inputs])


class TestRefusals:
    def test_scores_of_a_layer_without_attention(self) -> None:
        with pytest.raises(PatchError, match=r"only layers \[1, 4\] have attention"):
            autoprune.apply(built("lfm2_vl").model, presets.fastv(1, 0.5))

    def test_a_mixer_that_padding_would_write_into(self) -> None:
        model = lfm2_vl(biased=True).model
        with pytest.raises(ModelError, match="biases at the entry of a recurrent layer"):
            autoprune.apply(model, presets.vtw(3))
